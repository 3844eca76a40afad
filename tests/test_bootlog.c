/* bootlog: lines as dnsmasq 2.90 and mountd write them, into a file or by syslog. */
#include <stdio.h>
#include <string.h>

#include "bootlog.h"
#include "scratch.h"

static struct bootlog_event parsed(const char *line)
{
    struct bootlog_event event;

    assert_true(bootlog_parse(line, &event));
    return event;
}

static void test_lines_of_an_exchange(void **state)
{
    (void)state;
    struct bootlog_event e =
        parsed("Nov 22 20:03:07 dnsmasq-dhcp[53]: 1804463174 vendor class: PXEClient:Arch:00000:UNDI:002001\n");
    assert_int_equal(e.kind, BOOTLOG_CLASS);
    assert_string_equal(e.xid, "1804463174");
    assert_string_equal(e.text, "PXEClient:Arch:00000:UNDI:002001");
    assert_string_equal(e.when, "Nov 22 20:03:07");

    e = parsed("Nov  2 20:03:10 router dnsmasq-dhcp[53]: 18 DHCPACK(eth0) 10.9.217.135 02:fc:00:00:00:01 pi7\n");
    assert_int_equal(e.kind, BOOTLOG_ANSWERED);
    assert_string_equal(e.ip, "10.9.217.135");
    assert_string_equal(e.mac, "02:fc:00:00:00:01");
    assert_string_equal(e.when, "Nov  2 20:03:10");

    e = parsed("2026-11-22T20:03:10.123456+00:00 router dnsmasq-dhcp[53]: 18 PXE(eth0) b8:27:eb:42:32:c8 proxy\n");
    assert_int_equal(e.kind, BOOTLOG_ANSWERED);
    assert_string_equal(e.ip, "");
    assert_string_equal(e.mac, "b8:27:eb:42:32:c8");

    e = parsed("Nov 22 20:03:10 dnsmasq-dhcp[53]: 18 DHCPDISCOVER(eth0) b8:27:eb:42:32:c8 \n");
    assert_int_equal(e.kind, BOOTLOG_ASKED);
}

static void test_lines_of_files(void **state)
{
    (void)state;
    struct bootlog_event e = parsed("Nov 22 20:03:10 dnsmasq-tftp[53]: sent /a to /b.bin to 10.9.0.1\n");
    assert_int_equal(e.kind, BOOTLOG_SENT);
    assert_string_equal(e.text, "/a to /b.bin");
    assert_string_equal(e.ip, "10.9.0.1");

    e = parsed("Nov 22 20:03:10 dnsmasq-tftp[53]: file /mnt/tftpboot/bootsig.bin not found for 10.9.0.1\n");
    assert_int_equal(e.kind, BOOTLOG_MISSING);
    assert_string_equal(e.text, "/mnt/tftpboot/bootsig.bin");

    e = parsed("Nov 22 20:03:10 dnsmasq-tftp[53]: cannot access /mnt/tftpboot/start.elf: Permission denied\n");
    assert_int_equal(e.kind, BOOTLOG_REFUSED);
    assert_string_equal(e.text, "/mnt/tftpboot/start.elf");

    e = parsed("Nov 22 20:03:10 router rpc.mountd[7]: authenticated mount request from 10.9.0.20:812 for /m/rootfs (/m)\n");
    assert_int_equal(e.kind, BOOTLOG_MOUNTED);
    assert_string_equal(e.ip, "10.9.0.20");
    assert_string_equal(e.text, "/m/rootfs");
}

static void test_other_lines_are_passed_over(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "",
        "\n",
        "Nov 22 20:03:10 dnsmasq-dhcp[53]: DHCP, IP range 10.9.128.0 -- 10.9.255.254, lease time 12h\n",
        "Nov 22 20:03:10 dnsmasq-dhcp[53]: 18 available DHCP range: 10.9.128.0 -- 10.9.255.254\n",
        "Nov 22 20:03:10 dnsmasq-dhcp[53]: 18 DHCPACK(eth0) 10.9.0.1\n",
        "Nov 22 20:03:10 dnsmasq-tftp[53]: sent \n",
        "Nov 22 20:03:10 dnsmasq-tftp[53]: file /x\n",
        "Nov 22 20:03:10 dnsmasq[53]: query[A] dnsmasq-dhcp from 10.9.0.1\n",
        "Nov 22 20:03:10 sshd[53]: dnsmasq-dhcp\n",
    };
    struct bootlog_event event;

    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
        if (bootlog_parse(lines[i], &event)) fail_msg("taken: %s", lines[i]);
}

static void test_serials(void **state)
{
    (void)state;
    static const struct {
        const char *uuid, *serial;
    } uuids[] = {
        {"00:c8:32:42:8a:c8:32:42:8a:c8:32:42:8a:c8...", "8a4232c8"}, /* repeated */
        {"00:44:44:44:44:44:44:44:44:44:44:44:44:44...", ""},         /* a Pi 3's constant */
        {"00:52:50:69:34:12:31:c0:00:00:00:00:01:0d...", ""},         /* cut before its serial ends */
        {"00:c8:32", ""},
        {"", ""},
        {"what", ""},
    };
    static const struct {
        const char *path, *serial;
    } paths[] = {
        {"/m/tftpboot/ab42320d/start4.elf", "ab42320d"}, {"ab42320d/start4.elf", "ab42320d"},
        {"/m/tftpboot/xab42320d/start4.elf", ""},        {"/m/tftpboot/start4.elf", ""},
        {"/m/ab42320d/overlays/x.dtbo", ""},             {"start.elf", ""},
    };
    char serial[9];

    for (size_t i = 0; i < sizeof(uuids) / sizeof(*uuids); i++) {
        bootlog_uuid_serial(uuids[i].uuid, serial);
        assert_string_equal(serial, uuids[i].serial);
    }
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
        bootlog_path_serial(paths[i].path, serial);
        assert_string_equal(serial, paths[i].serial);
    }
}

static void test_a_file_is_followed_over_a_rotation(void **state)
{
    static const char line[] = "Nov 22 20:03:10 dnsmasq-tftp[53]: sent /%s to 10.9.0.1\n";
    const char *path = scratch_path(state, "log");
    struct bootlog_event event;
    struct bootlog *log;
    char text[256];

    snprintf(text, sizeof(text), line, "old");
    scratch_write(path, text);
    assert_int_equal(bootlog_open(&log, path, true), 0);
    assert_int_equal(bootlog_next(log, 100, &event), 0);
    FILE *file = fopen(path, "a");
    assert_non_null(file);
    /* A line in two pieces is one event. */
    fputs("Nov 22 20:03:10 dnsmasq-tftp[53]: sent /ne", file);
    fflush(file);
    assert_int_equal(bootlog_next(log, 200, &event), 0);
    fputs("w to 10.9.0.1\n", file);
    fclose(file);
    assert_int_equal(bootlog_next(log, 1000, &event), 1);
    assert_string_equal(event.text, "/new");
    assert_int_equal(rename(path, scratch_path(state, "log.1")), 0);
    snprintf(text, sizeof(text), line, "rotated");
    scratch_write(path, text);
    assert_int_equal(bootlog_next(log, 2000, &event), 1);
    assert_string_equal(event.text, "/rotated");
    bootlog_close(log);
    assert_int_equal(bootlog_open(&log, scratch_path(state, "none"), false), -2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_of_an_exchange),
        cmocka_unit_test(test_lines_of_files),
        cmocka_unit_test(test_other_lines_are_passed_over),
        cmocka_unit_test(test_serials),
        cmocka_unit_test(test_a_file_is_followed_over_a_rotation),
    };
    return cmocka_run_group_tests_name("bootlog", tests, scratch_setup, scratch_teardown);
}
