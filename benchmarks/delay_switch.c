/* delay_switch MICROSECONDS INTERFACE...: an Ethernet switch that keeps every frame for that long.
 *
 * For kernels without netem. The interfaces (one end of each node's cable) are taken off their bridge before;
 * the switch learns who is where and passes frames on through packet sockets, whose headers keep large
 * segments and unfinished checksums as they are. Rates are left to tc. Says "ready" and runs until it is
 * ended.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_PORTS = 64, MOST_ADDRESSES = 256, VIRTIO_HEADER = 10, MOST_BYTES = 1 << 17, READS = 64 };

struct frame {
    struct frame *next;
    int64_t due_ns;
    int to;
    size_t n;
    unsigned char bytes[];
};

struct address {
    unsigned char mac[6];
    int port;
};

static int ports[MOST_PORTS];
static int n_ports;
static struct address addresses[MOST_ADDRESSES];
static int n_addresses;
static struct frame *first, **end = &first; /* the delay is the same for all: first in, first out */
static int64_t delay_ns;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int open_port(const char *name) {
    int on = 1, room = 1 << 24;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
    unsigned index = if_nametoindex(name);
    struct sockaddr_ll at = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)index};
    struct packet_mreq all = {.mr_ifindex = (int)index, .mr_type = PACKET_MR_PROMISC};
    if (fd < 0 || index == 0 || setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) != 0) {
        die(name);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        die(name);
    }
    return fd;
}

static int find(const unsigned char *mac) {
    for (int i = 0; i < n_addresses; i++) {
        if (memcmp(addresses[i].mac, mac, 6) == 0) {
            return addresses[i].port;
        }
    }
    return -1;
}

static void learn(const unsigned char *mac, int port) {
    if (find(mac) < 0 && n_addresses < MOST_ADDRESSES) {
        memcpy(addresses[n_addresses].mac, mac, 6);
        addresses[n_addresses++].port = port;
    }
}

static void keep(const unsigned char *bytes, size_t n, int to) {
    struct frame *f = malloc(sizeof *f + n);
    if (!f) {
        die("memory");
    }
    f->next = NULL;
    f->due_ns = now_ns() + delay_ns;
    f->to = to;
    f->n = n;
    memcpy(f->bytes, bytes, n);
    *end = f;
    end = &f->next;
}

static void take(int port) {
    static unsigned char bytes[MOST_BYTES];
    for (int i = 0; i < READS; i++) {
        ssize_t n = recv(ports[port], bytes, sizeof bytes, 0);
        if (n < VIRTIO_HEADER + ETH_HLEN) {
            return;
        }
        const unsigned char *to = bytes + VIRTIO_HEADER;
        learn(to + 6, port);
        int target = to[0] & 1 ? -1 : find(to);
        for (int p = 0; p < n_ports; p++) {
            if (p != port && (target < 0 || target == p)) {
                keep(bytes, (size_t)n, p);
            }
        }
    }
}

/* Whether an interface's queue is full. */
static bool send_due(void) {
    while (first && first->due_ns <= now_ns()) {
        struct frame *f = first;
        if (send(ports[f->to], f->bytes, f->n, 0) < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
            return true; /* later */
        }
        first = f->next;
        end = first ? end : &first;
        free(f);
    }
    return false;
}

int main(int argc, char **argv) {
    struct pollfd waiting[MOST_PORTS];
    bool full = false;
    if (argc < 3 || argc - 2 > MOST_PORTS) {
        fprintf(stderr, "delay_switch MICROSECONDS INTERFACE...\n");
        return 2;
    }
    delay_ns = strtoll(argv[1], NULL, 10) * 1000;
    for (; n_ports < argc - 2; n_ports++) {
        ports[n_ports] = open_port(argv[n_ports + 2]);
        waiting[n_ports] = (struct pollfd){.fd = ports[n_ports], .events = POLLIN};
    }
    /* Ranks that poll must not keep it from its core. */
    sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 20});
    prctl(PR_SET_TIMERSLACK, 1000);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        int64_t left = first ? first->due_ns - now_ns() : 1000000000LL;
        left = full && left < 50000 ? 50000 : left;
        struct timespec wait = {.tv_nsec = left < 0 ? 0 : left > 999999999 ? 999999999 : left};
        ppoll(waiting, (nfds_t)n_ports, &wait, NULL);
        for (int p = 0; p < n_ports; p++) {
            take(p);
        }
        full = send_due();
    }
}
