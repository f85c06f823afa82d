// The classes (H x W) that the file gives for planes (3 x H x W).
std::vector<std::uint8_t> Predict(std::vector<std::uint8_t> planes) {
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "run");
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(@THREADS@);
  Ort::Session session(env, std::filesystem::path("@FILE@").c_str(), options);
  const std::vector<std::int64_t> shape = {1, 3, kHeight, kWidth};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto image = Ort::Value::CreateTensor<std::uint8_t>(memory, planes.data(), planes.size(), shape.data(), shape.size());
  const char *given = "image", *wanted = "labels";
  auto labels = session.Run(Ort::RunOptions{}, &given, &image, 1, &wanted, 1);
  const auto* first = labels[0].GetTensorData<std::uint8_t>();
  return {first, first + std::size_t(kHeight) * kWidth};
}

