#include <reactor/asio.hpp>

#include <reactor/detail/reactor_impl.hpp>

namespace torsion {

boost::asio::io_context& context(Reactor& reactor) {
  detail::ReactorImpl& impl = detail::implOf(reactor);
  impl.checkUsable();
  return impl.context;
}

}  // namespace torsion
