// The testing kit under GoogleTest.
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <memory>

#include <deferred/functions.hpp>
#include <reactor/testing/accumulating_protocol.hpp>
#include <reactor/testing/assertions.hpp>
#include <reactor/testing/fixture.hpp>
#include <test/runners/greeter.hpp>

using namespace torsion;

class Kit : public testing::Test, public TestFixture {
 protected:
  void TearDown() override {
    for (const auto& problem : finish()) ADD_FAILURE() << problem;
  }
};

TEST_F(Kit, Greeting) {
  auto client = std::make_shared<AccumulatingProtocol>();
  connect(client, std::make_shared<Greeter>()).flush();
  EXPECT_EQ(client->data, "hello");
  client->transport().loseConnection();
  reactor.flush();
}

TEST_F(Kit, ACallThatIsLeftFailsTheTest) {
  auto call = reactor.callLater(std::chrono::seconds(1), [] {});
  EXPECT_NONFATAL_FAILURE(TearDown(), "googletest.cpp");
  call.cancel();
}

TEST_F(Kit, ACheckOfTheKitThatDoesNotHold) {
  EXPECT_THROW(successResultOf(fail<int>(std::runtime_error("x"))), TestFailure);
}

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
