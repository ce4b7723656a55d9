// Adds and divides for others, by AMP. Usage: ampserver [PORT]
#include <iostream>

#include <examples/ampserver.hpp>
#include <examples/arguments.hpp>
#include <reactor/reactor.hpp>

using namespace torsion;

struct Math : amp::AMP {
  Math() {
    respond<Sum>([](Sum::Arguments a) {
      const auto total = a.a + a.b;
      std::cout << "Did a sum: " << a.a << " + " << a.b << " = " << total << std::endl;
      return Sum::Response{total};
    });
    respond<Divide>([](Divide::Arguments a) {
      if (a.denominator == 0) throw ZeroDivisionError("division by zero");
      const double result = double(a.numerator) / double(a.denominator);
      std::cout << "Divided: " << a.numerator << " / " << a.denominator << " = " << result << std::endl;
      return Divide::Response{result};
    });
  }
};

int main(int argc, char** argv) {
  auto port = reactor().listenTCP(portArgument(argc, argv, 1, 1234), forProtocol<Math>());
  std::cout << "started" << std::endl;
  reactor().run();
}
