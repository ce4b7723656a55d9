// What a small example needs of its command line.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>

/// The argument at `index`, or what the Python original has.
inline std::string argument(int argc, char** argv, int index, const std::string& original) {
  return argc > index ? argv[index] : original;
}

/// The same for a port. One that is none ends the program.
inline std::uint16_t portArgument(int argc, char** argv, int index, std::uint16_t original) {
  if (argc <= index) return original;
  char* end = nullptr;
  const long port = std::strtol(argv[index], &end, 10);
  if (*end == '\0' && end != argv[index] && port >= 0 && port <= 65535) return static_cast<std::uint16_t>(port);
  std::cerr << argv[0] << ": '" << argv[index] << "' is no port: give a number from 0 to 65535\n";
  std::exit(2);
}
