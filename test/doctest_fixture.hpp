// The kit's fixture for doctest: TEST_CASE_FIXTURE(Fixture, "...") fails if the test leaves something behind.
#pragma once

#include <doctest/doctest.h>

#include <reactor/testing/fixture.hpp>

struct Fixture : torsion::TestFixture {
  ~Fixture() {
    for (const auto& problem : finish()) FAIL_CHECK(problem);
  }
};
