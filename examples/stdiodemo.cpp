// A console that checks web pages: commands, Deferreds and getPage on standard input and output (Twisted's
// stdiodemo.py). The same protocol serves a TCP port.
#include <exception>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>

#include <protocols/basic.hpp>
#include <protocols/http/get_page.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stdio.hpp>

using namespace torsion;

class WebCheckerCommandProtocol : public LineReceiver {
 public:
  WebCheckerCommandProtocol() { setDelimiter("\n"); }

  void connectionMade() override { sendLine("Web checker console. Type 'help' for help."); }
  void lineReceived(std::string_view line) override {
    std::istringstream parts{std::string(line)};
    std::string name, argument;
    if (!(parts >> name)) return;
    parts >> argument;
    const auto command = kCommands.find(name);
    if (command == kCommands.end()) return sendLine("Error: no such command.");
    try {
      (this->*command->second.run)(argument);
    } catch (const std::exception& e) {
      sendLine(std::string("Error: ") + e.what());
    }
  }
  // Only because this is a program of its own.
  void connectionLost(const Failure&) override { reactor().stop(); }

 private:
  struct Command {
    void (WebCheckerCommandProtocol::*run)(const std::string& argument);
    const char* help;
  };
  static const std::map<std::string, Command> kCommands;

  void help(const std::string& name) {
    if (!name.empty()) return sendLine(kCommands.at(name).help);
    std::string names;
    for (const auto& [each, command] : kCommands) names += ' ' + each;
    sendLine("Valid commands:" + names);
  }
  void quit(const std::string&) {
    sendLine("Goodbye.");
    transport().loseConnection();
  }
  void check(const std::string& url) {
    getPage(url)
        .addCallback(
            hold([this](std::string page) { sendLine("Success: got " + std::to_string(page.size()) + " bytes."); }))
        .addErrback(hold([this](const Failure& f) { sendLine("Failure: " + f.getErrorMessage()); }));
  }
};

const std::map<std::string, WebCheckerCommandProtocol::Command> WebCheckerCommandProtocol::kCommands = {
    {"check", {&WebCheckerCommandProtocol::check, "check <url>: Attempt to download the given web page"}},
    {"help", {&WebCheckerCommandProtocol::help, "help [command]: List commands, or show help on the given command"}},
    {"quit", {&WebCheckerCommandProtocol::quit, "quit: Quit this session"}},
};

int main() {
  standardIO(std::make_shared<WebCheckerCommandProtocol>());
  reactor().run();
}
