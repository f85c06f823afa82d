// The classes (H x W) that the file gives for planes (3 x H x W).
std::vector<std::uint8_t> Predict(std::vector<std::uint8_t> planes) {
  ov::Core core;
  auto model = core.read_model("@FILE@");
  const ov::Shape shape = {1, 3, kHeight, kWidth};
  model->reshape(ov::PartialShape(shape));
  auto compiled = core.compile_model(model, "CPU", ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
                                     ov::inference_num_threads(@THREADS@), ov::hint::inference_precision(@PRECISION@));
  auto request = compiled.create_infer_request();
  request.set_input_tensor(ov::Tensor(ov::element::u8, shape, planes.data()));
  request.infer();
  const auto* first = request.get_output_tensor().data<std::uint8_t>();
  return {first, first + std::size_t(kHeight) * kWidth};
}

