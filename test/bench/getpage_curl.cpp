// Pages fetched with libcurl's multi interface, driven by epoll through curl_multi_socket_action; 64 easy handles, each
// used again when its page has come, a new connection each time.
#include <curl/curl.h>
#include <sys/epoll.h>

#include <string>
#include <vector>

#include "getpage.hpp"

namespace {

struct Page {
  CURL* easy = nullptr;
  std::string body;
};

struct Loop {
  bench::Pages& pages;
  CURLM* multi = curl_multi_init();
  int epoll = epoll_create1(0);
  int timeout = -1;
  int inFlight = 0;

  static int socketChanged(CURL*, curl_socket_t socket, int what, void* self, void* known) {
    auto& loop = *static_cast<Loop*>(self);
    if (what == CURL_POLL_REMOVE) {
      epoll_ctl(loop.epoll, EPOLL_CTL_DEL, socket, nullptr);
      return 0;
    }
    epoll_event event{};
    event.events = (what & CURL_POLL_IN ? unsigned(EPOLLIN) : 0U) | (what & CURL_POLL_OUT ? unsigned(EPOLLOUT) : 0U);
    event.data.fd = socket;
    epoll_ctl(loop.epoll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, socket, &event);
    curl_multi_assign(loop.multi, socket, self);
    return 0;
  }
  static int timerChanged(CURLM*, long milliseconds, void* self) {
    static_cast<Loop*>(self)->timeout = int(milliseconds);
    return 0;
  }
  static std::size_t received(char* data, std::size_t size, std::size_t count, void* page) {
    static_cast<Page*>(page)->body.append(data, size * count);
    return size * count;
  }

  void start(Page& page) {
    page.body.clear();
    ++inFlight;
    curl_multi_add_handle(multi, page.easy);
  }
  void ended() {
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(multi, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      if (message->data.result != CURLE_OK) bench::Pages::fail(curl_easy_strerror(message->data.result));
      Page* page = nullptr;
      long status = 0;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &page);
      curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &status);
      curl_multi_remove_handle(multi, page->easy);
      --inFlight;
      pages.got(std::size_t(status), page->body.size());
      if (pages.more()) start(*page);
    }
  }
  void run(std::vector<Page>& handles) {
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, &Loop::socketChanged);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, &Loop::timerChanged);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, this);
    const std::string url = std::string("http://127.0.0.1:") + pages.port + "/";
    for (Page& page : handles) {
      if (!pages.more()) break;
      page.easy = curl_easy_init();
      curl_easy_setopt(page.easy, CURLOPT_URL, url.c_str());
      curl_easy_setopt(page.easy, CURLOPT_PRIVATE, &page);
      curl_easy_setopt(page.easy, CURLOPT_WRITEFUNCTION, &Loop::received);
      curl_easy_setopt(page.easy, CURLOPT_WRITEDATA, &page);
      curl_easy_setopt(page.easy, CURLOPT_FORBID_REUSE, 1L);
      curl_easy_setopt(page.easy, CURLOPT_NOSIGNAL, 1L);
      curl_easy_setopt(page.easy, CURLOPT_CONNECTTIMEOUT, long(bench::kTimeoutSeconds));
      curl_easy_setopt(page.easy, CURLOPT_TIMEOUT, long(bench::kTimeoutSeconds));
      start(page);
    }
    while (inFlight > 0) {
      epoll_event events[bench::kInFlight];
      const int n = epoll_wait(epoll, events, bench::kInFlight, timeout);
      int running = 0;
      if (n == 0) curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
      for (int i = 0; i < n; ++i) {
        const unsigned what = events[i].events;
        const int action = (what & (EPOLLIN | EPOLLHUP | EPOLLERR) ? CURL_CSELECT_IN : 0) |
                           (what & EPOLLOUT ? CURL_CSELECT_OUT : 0) | (what & EPOLLERR ? CURL_CSELECT_ERR : 0);
        curl_multi_socket_action(multi, events[i].data.fd, action, &running);
      }
      ended();
    }
  }
};

}  // namespace

int main(int, char** argv) {
  bench::Pages pages(argv);
  curl_global_init(CURL_GLOBAL_DEFAULT);
  std::vector<Page> handles(bench::kInFlight);
  Loop{pages}.run(handles);
}
