/* Sends prepared request frames to a Kafka broker and times the answers. Knows no message: frames come from a file.
 *
 *   load closed HOST PORT FRAMES TIMEOUT CHECK CONNECTIONS DEPTH WARM_UP REQUESTS SECONDS
 *   load parked HOST PORT FRAMES TIMEOUT CHECK PRODUCE_CHECK OFFSET_POSITION OFFSET PARK_US WARM_UP REQUESTS
 *
 * FRAMES is a file of frames, each with its 4-byte size. CHECK is the position of the 2-byte error code in an answer,
 * its size prefix counted; an answer with an error, or out of order, ends the program, and so do TIMEOUT seconds in
 * which nothing is answered.
 *
 * closed: connection number i sends frame number i (modulo their count), DEPTH of them unanswered at any time; it ends
 * after SECONDS, or after REQUESTS answers if that is not 0 and comes first.
 * parked: the file holds a fetch and a produce. The fetch is sent on one connection, and PARK_US later, when it waits
 * at the end of the log, the produce on another; timed is from there to the end of the fetch's answer. OFFSET is where
 * the log ends now, and OFFSET_POSITION where the fetch says so.
 *
 * After the warm-up it prints "ready" and waits for a line, so that its caller can look at the broker's clock; then it
 * measures and prints one JSON object.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_FRAMES 1024
#define MAX_CONNECTIONS 4096
#define MAX_DEPTH 1024
#define MAX_HEAD 512
#define CORRELATION_IN_REQUEST 8
#define CORRELATION_IN_ANSWER 4
#define READ_BYTES (256 * 1024)
#define CONNECTIONS_PER_POLL 64

struct frame {
    unsigned char *bytes;
    size_t size;
};

struct connection {
    int fd;
    struct frame frame;         /* one request */
    unsigned char *requests;    /* DEPTH copies of it, so that many leave in one call */
    uint64_t *sent_at;          /* by request number modulo DEPTH */
    uint32_t sent, answered;
    int check;                  /* where an answer has its error code */
    size_t head_size;           /* bytes of an answer that are looked at */
    unsigned char head[MAX_HEAD];
    size_t have, skip, size;    /* of the answer that is arriving; size is that of the last whole one */
};

static struct frame frames[MAX_FRAMES];
static int frame_count;
static unsigned char scratch[READ_BYTES];
static uint32_t *waits;         /* nanoseconds */
static size_t wait_count, wait_room;
static int is_measuring;
static int timeout_seconds;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + now.tv_nsec;
}

static void *allocate(size_t size) {
    void *memory = malloc(size);
    if (memory == NULL) fail("no memory for %zu bytes", size);
    return memory;
}

static uint32_t read_u32(const unsigned char *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void write_u32(unsigned char *at, uint32_t value) {
    at[0] = value >> 24, at[1] = value >> 16, at[2] = value >> 8, at[3] = value;
}

static void write_u64(unsigned char *at, uint64_t value) {
    write_u32(at, value >> 32);
    write_u32(at + 4, (uint32_t)value);
}

static long number(const char *text) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*text == 0 || *end != 0 || value < 0) fail("not a number: %s", text);
    return value;
}

static void read_frames(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail("%s: %s", path, strerror(errno));
    unsigned char prefix[4];
    while (fread(prefix, 4, 1, file) == 1) {
        if (frame_count == MAX_FRAMES) fail("%s: more than %d frames", path, MAX_FRAMES);
        struct frame *frame = &frames[frame_count++];
        frame->size = 4 + (size_t)read_u32(prefix);
        frame->bytes = allocate(frame->size);
        memcpy(frame->bytes, prefix, 4);
        if (fread(frame->bytes + 4, frame->size - 4, 1, file) != 1) fail("%s: a frame is cut", path);
    }
    fclose(file);
    if (frame_count == 0) fail("%s: no frames", path);
}

static void open_connection(struct connection *connection, const char *host, int port, struct frame frame, int depth,
                            int check) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) fail("not an IPv4 address: %s", host);
    memset(connection, 0, sizeof *connection);
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("connecting to %s:%d: %s", host, port, strerror(errno));
    int on = 1;
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct timeval timeout = {.tv_sec = timeout_seconds};
    setsockopt(connection->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(connection->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    connection->frame = frame;
    connection->check = check;
    connection->head_size = check + 2;
    if (check < CORRELATION_IN_ANSWER + 4 || check + 2 > MAX_HEAD) fail("there is no error code at %d", check);
    connection->requests = allocate(frame.size * depth);
    for (int i = 0; i < depth; i++) memcpy(connection->requests + i * frame.size, frame.bytes, frame.size);
    connection->sent_at = allocate(depth * sizeof *connection->sent_at);
}

static void send_requests(struct connection *connection, int depth, int count) {
    unsigned char *from = connection->requests;
    size_t left = count * connection->frame.size;
    uint64_t now = now_ns();
    for (int i = 0; i < count; i++) {
        write_u32(from + i * connection->frame.size + CORRELATION_IN_REQUEST, connection->sent);
        connection->sent_at[connection->sent++ % depth] = now;
    }
    while (left > 0) {
        ssize_t sent = send(connection->fd, from, left, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) fail("nothing could be sent for %d s", timeout_seconds);
        if (sent < 0) fail("sending: %s", strerror(errno));
        from += sent;
        left -= sent;
    }
}

static void note_wait(uint64_t wait) {
    if (wait_count == wait_room) {
        wait_room = wait_room ? 2 * wait_room : 1 << 16;
        waits = realloc(waits, wait_room * sizeof *waits);
        if (waits == NULL) fail("no memory for %zu times", wait_room);
    }
    waits[wait_count++] = wait > UINT32_MAX ? UINT32_MAX : (uint32_t)wait;
}

static void check_head(struct connection *connection) {
    uint32_t size = 4 + read_u32(connection->head);
    if (size < connection->head_size) fail("an answer of %u bytes is too short", size);
    uint32_t correlation = read_u32(connection->head + CORRELATION_IN_ANSWER);
    if (correlation != connection->answered) fail("answer %u came instead of %u", correlation, connection->answered);
    int code = (int16_t)(connection->head[connection->check] << 8 | connection->head[connection->check + 1]);
    if (code != 0) fail("error code %d", code);
    connection->size = size;
    connection->skip = size - connection->head_size;
}

/* Take received bytes; how many answers they complete. */
static int take(struct connection *connection, const unsigned char *bytes, size_t count, int depth) {
    int whole = 0;
    size_t head_size = connection->head_size;
    uint64_t now = now_ns();
    while (count > 0) {
        size_t part;
        if (connection->have < head_size) {
            part = head_size - connection->have < count ? head_size - connection->have : count;
            memcpy(connection->head + connection->have, bytes, part);
            connection->have += part;
            if (connection->have == head_size) check_head(connection);
        } else {
            part = connection->skip < count ? connection->skip : count;
            connection->skip -= part;
        }
        bytes += part;
        count -= part;
        if (connection->have == head_size && connection->skip == 0) {
            if (is_measuring) note_wait(now - connection->sent_at[connection->answered % depth]);
            connection->answered++;
            connection->have = 0;
            whole++;
        }
    }
    return whole;
}

static int receive(struct connection *connection, int depth) {
    ssize_t count = recv(connection->fd, scratch, sizeof scratch, 0);
    if (count < 0 && errno == EAGAIN) fail("no answer within %d s", timeout_seconds);
    if (count <= 0) fail("receiving: %s", count ? strerror(errno) : "the broker closed the connection");
    return take(connection, scratch, count, depth);
}

/* Keep `depth` requests open on each connection until the time is over or the count reached, and wait for the rest. */
static uint64_t run_closed(struct connection *connections, int count, int depth, uint64_t requests, double seconds) {
    int poller = epoll_create1(0);
    if (poller < 0) fail("epoll: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[i]};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, connections[i].fd, &event) < 0) fail("epoll: %s", strerror(errno));
    }
    uint64_t began = now_ns(), until = began + (uint64_t)(seconds * 1e9), sent = 0, answered = 0;
    for (int i = 0; i < count && (requests == 0 || sent < requests); i++) {
        int first = requests && requests - sent < (uint64_t)depth ? (int)(requests - sent) : depth;
        send_requests(&connections[i], depth, first);
        sent += first;
    }
    struct epoll_event events[CONNECTIONS_PER_POLL];
    while (answered < sent) {
        int ready = 1;
        if (count == 1) events[0].data.ptr = connections; /* a blocking read is one call less */
        else ready = epoll_wait(poller, events, CONNECTIONS_PER_POLL, timeout_seconds * 1000);
        if (ready == 0) fail("no answer within %d s", timeout_seconds);
        if (ready < 0 && errno != EINTR) fail("epoll: %s", strerror(errno));
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            int more = receive(connection, depth);
            answered += more;
            if (requests && requests - sent < (uint64_t)more) more = requests - sent;
            if (seconds > 0 && now_ns() >= until) more = 0;
            if (more) send_requests(connection, depth, more);
            sent += more;
        }
    }
    uint64_t took = now_ns() - began;
    close(poller);
    return took;
}

/* One answer of a connection that has one open request. */
static void receive_one(struct connection *connection) {
    while (receive(connection, 1) == 0) {}
}

static uint64_t run_parked(struct connection *fetch, struct connection *produce, int position, uint64_t *offset,
                           int park_us, uint64_t count) {
    uint64_t began = now_ns();
    struct timespec park = {.tv_sec = park_us / 1000000, .tv_nsec = park_us % 1000000 * 1000L};
    for (uint64_t i = 0; i < count; i++) {
        write_u64(fetch->requests + position, (*offset)++);
        send_requests(fetch, 1, 1);
        nanosleep(&park, NULL);
        int was_measuring = is_measuring;
        size_t before = fetch->size;
        send_requests(produce, 1, 1);
        fetch->sent_at[0] = produce->sent_at[0];
        receive_one(fetch);
        is_measuring = 0;
        receive_one(produce);
        is_measuring = was_measuring;
        if (before && before != fetch->size) fail("a fetch was answered with %zu instead of %zu bytes", fetch->size, before);
    }
    return now_ns() - began;
}

static int compare(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static double wait_us(double share) {
    size_t at = (size_t)(share * wait_count);
    return waits[at < wait_count ? at : wait_count - 1] / 1e3;
}

static void wait_for_line(void) {
    printf("ready\n");
    fflush(stdout);
    int byte;
    while ((byte = getchar()) != '\n')
        if (byte == EOF) fail("nobody said when to begin");
    is_measuring = 1;
}

static void print_result(uint64_t took) {
    if (wait_count == 0) fail("nothing was answered");
    qsort(waits, wait_count, sizeof *waits, compare);
    printf("{\"requests\": %zu, \"seconds\": %.6f, \"p50_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f}\n", wait_count,
           took / 1e9, wait_us(0.5), wait_us(0.99), wait_us(1));
    fflush(stdout);
}

static void closed(const char *host, int port, int check, char **options) {
    long count = number(options[0]), depth = number(options[1]);
    uint64_t warm_up = number(options[2]), requests = number(options[3]);
    double seconds = atof(options[4]);
    if (count < 1 || count > MAX_CONNECTIONS || depth < 1 || depth > MAX_DEPTH) fail("too few or too many connections");
    if (requests == 0 && seconds <= 0) fail("neither REQUESTS nor SECONDS would end it");
    struct connection *connections = allocate(count * sizeof *connections);
    for (int i = 0; i < count; i++) open_connection(&connections[i], host, port, frames[i % frame_count], depth, check);
    if (warm_up) run_closed(connections, count, depth, warm_up, 0);
    wait_for_line();
    print_result(run_closed(connections, count, depth, requests, seconds));
}

static void parked(const char *host, int port, int check, char **options) {
    long produce_check = number(options[0]), position = number(options[1]), park_us = number(options[3]);
    uint64_t offset = number(options[2]);
    struct connection fetch, produce;
    if (frame_count != 2) fail("a fetch and a produce are needed, not %d frames", frame_count);
    if ((size_t)position + 8 > frames[0].size) fail("OFFSET_POSITION is behind the fetch");
    open_connection(&fetch, host, port, frames[0], 1, check);
    open_connection(&produce, host, port, frames[1], 1, produce_check);
    run_parked(&fetch, &produce, position, &offset, park_us, number(options[4]));
    wait_for_line();
    print_result(run_parked(&fetch, &produce, position, &offset, park_us, number(options[5])));
}

int main(int count, char **arguments) {
    int is_parked = count == 13 && strcmp(arguments[1], "parked") == 0;
    if (!is_parked && (count != 12 || strcmp(arguments[1], "closed") != 0)) fail("usage: see the head of load.c");
    read_frames(arguments[4]);
    timeout_seconds = number(arguments[5]);
    (is_parked ? parked : closed)(arguments[2], number(arguments[3]), number(arguments[6]), arguments + 7);
    return 0;
}
