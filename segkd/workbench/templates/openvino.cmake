# cmake -B build -DOpenVINO_DIR=DIR && cmake --build build && build/run IMAGE
# DIR: where OpenVINOConfig.cmake lies; of Python's package, what this prints:
# python -c "from openvino.utils import get_cmake_path; print(get_cmake_path())"
cmake_minimum_required(VERSION 3.18)
project(run CXX)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
find_package(OpenVINO REQUIRED COMPONENTS Runtime)
find_package(OpenCV QUIET COMPONENTS core imgcodecs)
add_executable(run run.cpp)
target_link_libraries(run PRIVATE openvino::runtime)
if(OpenCV_FOUND)
  target_compile_definitions(run PRIVATE WITH_OPENCV)
  target_link_libraries(run PRIVATE opencv_core opencv_imgcodecs)
endif()
