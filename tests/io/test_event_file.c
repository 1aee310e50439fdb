/* Event files: CRC-32C by its known values, records to the byte as tensorboard 2.21's own RecordWriter and
 * protocol buffers write them (RecordWriter(file).write(Event(wall_time=w, step=301,
 * summary=...).SerializeToString())), names that readers take in the order of the runs, and what is removed.
 */
#include "tests/unit.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/event_file.h"
#include "io/file.h"
#include "util/clock.h"
#include "util/mem.h"

/* Event(wall_time=1700000000.25, …): file_version="brain.Event:2"; step=301,
 * session_log=SessionLog(status=START); step=301, summary=[("train/loss", 0.6931471805599453),
 * ("eval/rewards/margins", -inf)]. */
static const char *const golden[] = {
    "0900001040fc54d9411a0d627261696e2e4576656e743a32",
    "0900001040fc54d94110ad023a020801",
    "0900001040fc54d94110ad022a300a110a0a747261696e2f6c6f7373151872313f0a1b0a146576616c2f726577617264732f6d61"
    "7267696e7315000080ff",
};
/* What the writer puts around a message: the length with its CRC, and the message's. */
static const char *const golden_heads[] = {"1800000000000000a37f4b22", "100000000000000095fbfe18",
                                           "3e00000000000000d9d240e7"};
static const char *const golden_tails[] = {"338d2fe9", "cb79b93b", "023a3f12"};

static char folder[64];

/* Every vector of RFC 3720, B.4, and the usual check value. */
static void test_crc32c(void **state) {
    (void)state;
    unsigned char bytes[48];
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(event_crc32c(bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(event_crc32c(bytes, 32), 0x62a8ab43);
    for (unsigned char i = 0; i < 32; i++) {
        bytes[i] = i;
    }
    assert_int_equal(event_crc32c(bytes, 32), 0x46dd794e);
    for (unsigned char i = 0; i < 32; i++) {
        bytes[i] = (unsigned char)(31 - i);
    }
    assert_int_equal(event_crc32c(bytes, 32), 0x113fdb5c);
    static const unsigned char read_pdu[48] = {
        0x01, 0xc0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, [32] = 0x28, [40] = 0x02};
    assert_int_equal(event_crc32c(read_pdu, 48), 0xd9963a56);
    assert_int_equal(event_crc32c("123456789", 9), 0xe3069283);
    assert_int_equal(event_crc32c("", 0), 0);
}

static size_t unhex(const char *digits, unsigned char *out) {
    size_t n = strlen(digits) / 2;
    for (size_t i = 0; i < n; i++) {
        const char pair[3] = {digits[2 * i], digits[2 * i + 1], 0};
        out[i] = (unsigned char)strtoul(pair, NULL, 16);
    }
    return n;
}

static uint32_t read_32(const unsigned char *at) {
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint32_t unmasked(uint32_t crc) {
    uint32_t turned = crc - 0xa282ead8u;
    return turned >> 17 | turned << 15;
}

/* The record at *at is golden[which], but for its moment, which is now; where that is the golden one, all of
 * it. */
static void check_record(const unsigned char **at, int which) {
    unsigned char message[128], head[12], tail[4];
    size_t n = unhex(golden[which], message);
    unhex(golden_heads[which], head);
    unhex(golden_tails[which], tail);
    assert_memory_equal(*at, head, sizeof head);
    assert_int_equal(unmasked(read_32(head + 8)), event_crc32c(head, 8));
    assert_int_equal(unmasked(read_32(tail)), event_crc32c(message, n));
    double now;
    memcpy(&now, *at + 12 + 1, sizeof now);
    assert_true(fabs(now - clock_wall()) < 600);
    memcpy(message + 1, &now, sizeof now);
    assert_memory_equal(*at + 12, message, n);
    assert_int_equal(unmasked(read_32(*at + 12 + n)), event_crc32c(message, n));
    *at += 12 + n + 4;
}

static void test_bytes(void **state) {
    (void)state;
    struct event_file f = {0};
    struct text summary = {0};
    char *data;
    size_t len;
    event_file_close(&f); /* one that was never open */
    assert_int_equal(event_file_open(folder, 301, &f), OK);
    assert_int_equal(event_put(&summary, "train/loss", 0.6931471805599453), OK);
    assert_int_equal(event_put(&summary, "eval/rewards/margins", -1e300), OK); /* no float is as large */
    assert_int_equal(event_file_write(&f, 301, &summary), OK);
    assert_int_equal(event_file_sync(&f), OK);
    assert_int_equal(file_read(f.path, &data, &len), OK);
    const unsigned char *at = (const unsigned char *)data;
    for (int i = 0; i < 3; i++) {
        check_record(&at, i);
    }
    assert_ptr_equal(at, data + len);
    mem_free(data);
    text_free(&summary);
    event_file_close(&f);
}

/* However fast runs follow each other, and whatever the clock says. */
static void test_names(void **state) {
    (void)state;
    char ahead[128], other[128];
    struct event_file f[3];
    snprintf(ahead, sizeof ahead, "%s/events.out.tfevents.%010lld.elsewhere.1.0", folder,
             (long long)clock_wall() + 500);
    snprintf(other, sizeof other, "%s/notes", folder);
    assert_int_equal(file_write(ahead, "x", 1), OK);
    assert_int_equal(file_write(other, "x", 1), OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(event_file_open(folder, 0, &f[i]), OK);
        assert_true(strcmp(f[i].path, i ? f[i - 1].path : ahead) > 0);
    }
    /* Those of others stay. */
    assert_int_equal(event_files_remove(folder), OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(access(f[i].path, F_OK), -1);
        event_file_close(&f[i]);
    }
    assert_int_equal(unlink(ahead), 0);
    assert_int_equal(unlink(other), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(event_files_remove(folder), OK); /* nothing is there */
}

static void test_refused(void **state) {
    (void)state;
    struct event_file f = {0};
    struct text summary = {0};
    char within[128];
    assert_int_equal(file_write(folder, "x", 1), OK); /* a file where the folder is to be */
    snprintf(within, sizeof within, "%s/tensorboard", folder);
    assert_int_equal(event_file_open(within, 0, &f), ERR_WRITE);
    assert_null(f.path);
    assert_int_equal(unlink(folder), 0);
    assert_int_equal(event_file_open(folder, 0, &f), OK);
    int full = open("/dev/full", O_WRONLY);
    assert_true(full >= 0 && dup2(full, f.descriptor) >= 0);
    close(full);
    assert_int_equal(event_put(&summary, "train/loss", 1), OK);
    assert_int_equal(event_file_write(&f, 1, &summary), ERR_WRITE);
    assert_non_null(strstr(status_message()->text, f.path));
    event_file_close(&f);
    text_free(&summary);
    assert_int_equal(event_files_remove(folder), OK);
    assert_int_equal(rmdir(folder), 0);
}

int main(void) {
    snprintf(folder, sizeof folder, "/tmp/event-file-%ld", (long)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
