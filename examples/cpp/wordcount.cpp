// Counts the words of standard input: std::string, std::map, std::vector, algorithms and iostream.
//
//     wordcount [HOW-MANY] < TEXT

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

int main(int argc, char **argv) {
  const std::size_t top = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 5;
  auto counts = std::make_unique<std::map<std::string, int>>();
  std::size_t lines = 0, words = 0;

  for (std::string line; std::getline(std::cin, line);) {
    ++lines;
    std::string word;
    line.push_back(' ');
    for (unsigned char c : line) {
      if (std::isalpha(c)) {
        word.push_back(static_cast<char>(std::tolower(c)));
      } else if (!word.empty()) {
        ++words;
        ++(*counts)[word];
        word.clear();
      }
    }
  }

  std::vector<std::pair<std::string, int>> ranked(counts->begin(), counts->end());
  // Stable: words counted alike stay in the order of the map, by letter.
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto &a, const auto &b) { return a.second > b.second; });
  ranked.resize(std::min(top, ranked.size()));

  for (const auto &[word, count] : ranked)
    std::cout << std::setw(4) << count << "  " << word << '\n';
  std::cout << lines << " lines, " << words << " words, " << counts->size() << " different\n";
  return words == 0 ? 1 : 0;
}
