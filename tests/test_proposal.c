/* What an import proposes for a node's own files: each rewritten file byte for byte, as DietPi and the Raspberry Pi OS releases
 * have it. */
#include "scratch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "proposal.h"
#include "proposal_text.h"
#include "template_text.h"

#define NFS_WORDS "root=/dev/nfs nfsroot=${server}:${rootfs},vers=3,proto=tcp rw ip=dhcp rootwait"
#define NFS NFS_WORDS "\n"

static void check(char *found, const char *expected)
{
    assert_non_null(found);
    assert_string_equal(found, expected);
    free(found);
}

static void test_cmdline(void **state)
{
    static const char *const lines[][2] = {
        /* the how-to's: DietPi on Buster */
        {"console=serial0,115200 console=tty1 root=PARTUUID=907af7d0-02 rootfstype=ext4 elevator=deadline "
         "fsck.repair=yes rootwait quiet net.ifnames=0\n",
         "console=serial0,115200 console=tty1 elevator=deadline quiet net.ifnames=0 " NFS},
        /* DietPi since */
        {"root=PARTUUID=127c511a-02 rootfstype=ext4 rootwait net.ifnames=0 logo.nologo console=serial0,115200 console=tty1\n",
         "net.ifnames=0 logo.nologo console=serial0,115200 console=tty1 " NFS},
        /* Bullseye */
        {"console=serial0,115200 console=tty1 root=PARTUUID=4b4be0fb-02 rootfstype=ext4 fsck.repair=yes rootwait quiet "
         "init=/usr/lib/raspi-config/init_resize.sh\n",
         "console=serial0,115200 console=tty1 quiet " NFS},
        /* Bookworm */
        {"console=serial0,115200 console=tty1 root=PARTUUID=4e639091-02 rootfstype=ext4 fsck.repair=yes rootwait quiet "
         "init=/usr/lib/raspberrypi-sys-mods/firstboot splash plymouth.ignore-serial-consoles",
         "console=serial0,115200 console=tty1 quiet splash plymouth.ignore-serial-consoles " NFS},
        /* Imager's script of the first boot, which ends with sed 's| systemd.run.*||g': nothing of ours behind it */
        {"console=serial0,115200 console=tty1 root=PARTUUID=617a2abd-02 rootfstype=ext4 fsck.repair=yes rootwait quiet "
         "init=/usr/lib/raspberrypi-sys-mods/firstboot splash cfg80211.ieee80211_regdom=TW systemd.run=/boot/firstrun.sh "
         "systemd.run_success_action=reboot systemd.unit=kernel-command-line.target\n",
         "console=serial0,115200 console=tty1 quiet splash cfg80211.ieee80211_regdom=TW " NFS_WORDS
         " systemd.run=/boot/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target\n"},
        /* Trixie */
        {"console=serial0,115200 console=tty1 root=PARTUUID=a0b1c2d3-02 rootfstype=ext4 fsck.repair=yes rootwait resize "
         "cfg80211.ieee80211_regdom=GB ds=nocloud;i=rpi-imager-1\n",
         "console=serial0,115200 console=tty1 cfg80211.ieee80211_regdom=GB ds=nocloud;i=rpi-imager-1 " NFS},
        /* quotes, a root that is NFS already, options of a file system, words that only look alike */
        {"rootwait a=\"b root=c\" root=/dev/nfs nfsroot=1.2.3.4:/x rw ip=dhcp rootflags=data=journal rootdelay=5 "
         "init=/bin/bash resized noresume\r\n",
         "a=\"b root=c\" rootdelay=5 init=/bin/bash resized noresume " NFS},
        {"", NFS},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) check(proposal_cmdline(lines[i][0], true), lines[i][1]);
    /* Debian's own kernel: the initramfs mounts the root, and hangs on proto=tcp. */
    check(proposal_cmdline("console=tty0 console=ttyS1,115200 root=LABEL=RASPIROOT rw fsck.repair=yes net.ifnames=0 "
                           "rootwait\n",
                           false),
          "console=tty0 console=ttyS1,115200 net.ifnames=0 boot=nfs root=/dev/nfs "
          "nfsroot=${server}:${rootfs},vers=3,tcp rw ip=dhcp rootwait\n");
}

static void test_pxelinux(void **state)
{
    (void)state;
    check(proposal_pxelinux("serial 0 115200\ndefault linux\nlabel linux\n  kernel vmlinuz\n"
                            "  append initrd=initrd.img root=LABEL=root ro console=ttyS0,115200 panic=-1\n"
                            "label memtest\n  kernel memtest\n  APPEND -",
                            false),
          "serial 0 115200\ndefault linux\nlabel linux\n  kernel vmlinuz\n"
          "  append initrd=initrd.img console=ttyS0,115200 panic=-1 boot=nfs root=/dev/nfs "
          "nfsroot=${server}:${rootfs},vers=3,tcp rw ip=dhcp rootwait\n"
          "label memtest\n  kernel memtest\n  APPEND -");
    check(proposal_pxelinux("append root=/dev/sda1", true), "append " NFS);
}

static const char *howto_value(const char *name, size_t length, void *data)
{
    (void)data;
    if (length == 6 && memcmp(name, "server", 6) == 0) return "192.168.1.1";
    return length == 6 && memcmp(name, "rootfs", 6) == 0 ? "/mnt/cluster/system/000000008a4232c8/rootfs" : NULL;
}

/* What the kernel finds on the line of the how-to. */
static void test_the_kernel_finds_the_root_of_the_howto(void **state)
{
    static const char *const wanted[] = {
        "root=/dev/nfs", "nfsroot=192.168.1.1:/mnt/cluster/system/000000008a4232c8/rootfs,vers=3,proto=tcp", "rw",
        "ip=dhcp", "rootwait"};
    _cleanup_free_ char *body = proposal_cmdline(
        "console=serial0,115200 console=tty1 root=PARTUUID=907af7d0-02 rootfstype=ext4 elevator=deadline fsck.repair=yes "
        "rootwait quiet net.ifnames=0",
        true);
    _cleanup_free_ char *line = NULL;
    int found[5] = {0};
    const char *name;
    size_t size, length;

    (void)state;
    assert_int_equal(template_expand(body, strlen(body), howto_value, NULL, &line, &size, &name, &length), 0);
    for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n"))
        for (int i = 0; i < 5; i++) found[i] += strcmp(word, wanted[i]) == 0;
    for (int i = 0; i < 5; i++) assert_int_equal(found[i], 1);
}

static void test_config(void **state)
{
    (void)state;
    check(proposal_config("# For more options see http://rptl.io/configtxt\ndtparam=audio=on\n\n"
                          "# Automatically load initramfs files, if found\nauto_initramfs=1\n\n[cm4]\notg_mode=1\n\n[all]\n"),
          "# For more options see http://rptl.io/configtxt\ndtparam=audio=on\n\n"
          "# Automatically load initramfs files, if found\n#auto_initramfs=1\n\n[cm4]\notg_mode=1\n\n[all]\n");
    check(proposal_config("auto_initramfs=0\ninitramfs initramfs8 followkernel"),
          "auto_initramfs=0\n#initramfs initramfs8 followkernel");
}

static void test_fstab(void **state)
{
    (void)state;
    /* DietPi */
    check(proposal_fstab("# You can use \"dietpi-drive_manager\" to setup mounts.\n"
                         "#----------------------------------------------------------------\n"
                         "# NETWORK\n\n"
                         "tmpfs /tmp tmpfs size=439M,noatime,lazytime,nodev,nosuid,mode=1777\n"
                         "tmpfs /var/log tmpfs size=50M,noatime,lazytime,nodev,nosuid,mode=1777\n"
                         "PARTUUID=907af7d0-02 / auto noatime,lazytime,rw 0 1\n"
                         "PARTUUID=907af7d0-01 /boot auto noatime,lazytime,rw 0 2\n"),
          "# You can use \"dietpi-drive_manager\" to setup mounts.\n"
          "#----------------------------------------------------------------\n"
          "# NETWORK\n\n"
          "tmpfs /tmp tmpfs size=439M,noatime,lazytime,nodev,nosuid,mode=1777\n"
          "tmpfs /var/log tmpfs size=50M,noatime,lazytime,nodev,nosuid,mode=1777\n");
    /* Bullseye */
    check(proposal_fstab("proc            /proc           proc    defaults          0       0\n"
                         "PARTUUID=4b4be0fb-01  /boot           vfat    defaults          0       2\n"
                         "PARTUUID=4b4be0fb-02  /               ext4    defaults,noatime  0       1\n"
                         "# a swapfile is not a swap partition, no line here\n"
                         "#   use  dphys-swapfile swap[on|off]  for that\n"),
          "proc            /proc           proc    defaults          0       0\n"
          "# a swapfile is not a swap partition, no line here\n"
          "#   use  dphys-swapfile swap[on|off]  for that\n");
    /* Bookworm, Trixie; no end of line at the end, a slash at a place's, places that only begin so */
    check(proposal_fstab("proc            /proc           proc    defaults          0       0\n"
                         "/dev/sdb1\t/boot2 vfat\n  /dev/sdb2 /boot/other vfat\n"
                         "PARTUUID=4e639091-01  /boot/firmware/  vfat    defaults          0       2\n"
                         "PARTUUID=4e639091-02  /               ext4    defaults,noatime  0       1"),
          "proc            /proc           proc    defaults          0       0\n"
          "/dev/sdb1\t/boot2 vfat\n  /dev/sdb2 /boot/other vfat\n");
}

static void test_interfaces(void **state)
{
    (void)state;
    /* DietPi */
    check(proposal_interfaces("# Location: /etc/network/interfaces\n"
                              "# Please modify network settings via: dietpi-config\n\n"
                              "# Drop-in configs\nsource interfaces.d/*\n\n"
                              "# Ethernet\nallow-hotplug eth0\niface eth0 inet dhcp\naddress 192.168.0.100\n"
                              "netmask 255.255.255.0\ngateway 192.168.0.1\n#dns-nameservers 9.9.9.9 149.112.112.112\n\n"
                              "# WiFi\n#allow-hotplug wlan0\niface wlan0 inet dhcp\naddress 192.168.0.100\n"
                              "wireless-power off\nwpa-conf /etc/wpa_supplicant/wpa_supplicant.conf\n"),
          "# Location: /etc/network/interfaces\n"
          "# Please modify network settings via: dietpi-config\n\n"
          "# Drop-in configs\nsource interfaces.d/*\n\n"
          "# Ethernet\n#allow-hotplug eth0\n#iface eth0 inet dhcp\n#address 192.168.0.100\n"
          "#netmask 255.255.255.0\n#gateway 192.168.0.1\n#dns-nameservers 9.9.9.9 149.112.112.112\n\n"
          "# WiFi\n#allow-hotplug wlan0\niface wlan0 inet dhcp\naddress 192.168.0.100\n"
          "wireless-power off\nwpa-conf /etc/wpa_supplicant/wpa_supplicant.conf\n");
    /* Raspberry Pi OS: nothing to do */
    check(proposal_interfaces("# interfaces(5) file used by ifup(8) and ifdown(8)\n"
                              "# Include files from /etc/network/interfaces.d:\n"
                              "source-directory /etc/network/interfaces.d\n"),
          "# interfaces(5) file used by ifup(8) and ifdown(8)\n"
          "# Include files from /etc/network/interfaces.d:\n"
          "source-directory /etc/network/interfaces.d\n");
    /* Others on its line, indented lines, an alias, a line that goes on, a name that begins so, an end without \n */
    check(proposal_interfaces("auto lo eth0\niface lo inet loopback\n\niface eth0 inet static\n    address 10.0.0.2/24\n"
                              "    up echo \\\n  iface lo\n\niface eth0:1 inet dhcp\nauto eth01\niface eth01 inet dhcp\n"
                              "iface eth0 inet6 auto"),
          "#auto lo eth0\nauto lo\niface lo inet loopback\n\n#iface eth0 inet static\n#    address 10.0.0.2/24\n"
          "#    up echo \\\n#  iface lo\n\n#iface eth0:1 inet dhcp\nauto eth01\niface eth01 inet dhcp\n"
          "#iface eth0 inet6 auto");
}

static void test_other_files(void **state)
{
    (void)state;
    check(proposal_dhcpcd("# Inform the DHCP server of our hostname for DDNS.\nhostname\nclientid\npersistent\n"
                          "slaac private"),
          "# Inform the DHCP server of our hostname for DDNS.\nhostname\nclientid\npersistent\nslaac private\n\n"
          "# The root file system comes through it, with the address that the kernel got.\ndenyinterfaces eth0\n");
    check(proposal_dhcpcd("persistent\ndenyinterfaces eth0\n"), "persistent\ndenyinterfaces eth0\n");
    check(proposal_hosts("127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\nff02::1\t\tip6-allnodes\n\n"
                         "127.0.1.1\t\traspberrypi\n"),
          "127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\nff02::1\t\tip6-allnodes\n\n"
          "127.0.1.1\t\t${hostname}\n");
    check(proposal_hosts("127.0.0.1 localhost\n127.0.1.1 DietPi\n127.0.1.10 other"),
          "127.0.0.1 localhost\n127.0.1.1 ${hostname}\n127.0.1.10 other");
    check(proposal_dietpi("# Swap\nAUTO_SETUP_SWAPFILE_SIZE=1\nAUTO_SETUP_SWAPFILE_LOCATION=/var/swap\n"),
          "# Swap\nAUTO_SETUP_SWAPFILE_SIZE=0\nAUTO_SETUP_SWAPFILE_LOCATION=/var/swap\n");
    check(proposal_dietpi("# - If both Ethernet and WiFi are enabled, WiFi will take priority.\n"
                          "AUTO_SETUP_NET_ETHERNET_ENABLED=1\nAUTO_SETUP_NET_WIFI_ENABLED=0\n\nAUTO_SETUP_NET_USESTATIC=1\n"
                          "AUTO_SETUP_NET_STATIC_IP=192.168.0.100\nAUTO_SETUP_DHCP_TO_STATIC=1\n# Hostname\n"
                          "AUTO_SETUP_NET_HOSTNAME=DietPi"),
          "# - If both Ethernet and WiFi are enabled, WiFi will take priority.\n"
          "AUTO_SETUP_NET_ETHERNET_ENABLED=0\nAUTO_SETUP_NET_WIFI_ENABLED=0\n\nAUTO_SETUP_NET_USESTATIC=0\n"
          "AUTO_SETUP_NET_STATIC_IP=192.168.0.100\nAUTO_SETUP_DHCP_TO_STATIC=0\n# Hostname\n"
          "AUTO_SETUP_NET_HOSTNAME=${hostname}\n");
    check(proposal_user_data("#cloud-config\nhostname: raspberrypi\nmanage_etc_hosts: true\n#hostname: x\nssh_pwauth: true\n"),
          "#cloud-config\nhostname: ${hostname}\nmanage_etc_hosts: true\n#hostname: x\nssh_pwauth: true\n");
}

/* ---- a whole root ---- */

static void put(void **state, const char *path, const char *text)
{
    char command[512];

    snprintf(command, sizeof(command), "mkdir -p \"$(dirname '%s')\"", scratch_path(state, path));
    assert_int_equal(system(command), 0);
    scratch_write(scratch_path(state, path), text);
}

/* One line for each: "path mode: body" with ends of lines as '|'. */
static void check_proposals(void **state, const char *root, const char *boot, const char *expected)
{
    _cleanup_close_ int fd = open(scratch_path(state, root), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct proposals proposals;
    char found[8192];
    size_t used = 0;

    assert_true(fd >= 0);
    assert_int_equal(proposals_make(&proposals, fd, boot), 0);
    for (size_t i = 0; i < proposals.count; i++) {
        const struct proposal *p = &proposals.items[i];

        used += snprintf(found + used, sizeof(found) - used, "%s %d: ", p->path, p->mode);
        for (const char *c = p->body ? p->body : "(removed)"; *c && used + 2 < sizeof(found); c++)
            found[used++] = *c == '\n' ? '|' : *c;
        found[used++] = '\n';
    }
    found[used] = '\0';
    proposals_free(&proposals);
    assert_string_equal(found, expected);
}

static void test_trixie(void **state)
{
    put(state, "trixie/boot/firmware/cmdline.txt", "console=tty1 root=PARTUUID=1-02 rootwait resize\n");
    put(state, "trixie/boot/firmware/config.txt", "auto_initramfs=1\n");
    put(state, "trixie/boot/config-6.12.47+rpt-rpi-v8", "# Linux\nCONFIG_ROOT_NFS=y\n");
    put(state, "trixie/etc/fstab", "PARTUUID=1-02 / ext4 defaults 0 1\n");
    put(state, "trixie/etc/NetworkManager/NetworkManager.conf", "[main]\n");
    put(state, "trixie/etc/hostname", "raspberrypi\n");
    put(state, "trixie/etc/hosts", "127.0.1.1\traspberrypi ${x}\n# ${y}\n");
    put(state, "trixie/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    put(state, "trixie/usr/lib/systemd/system-generators/rpi-swap-generator", "");
    put(state, "trixie/usr/lib/systemd/system/x.service", "");
    put(state, "trixie/etc/systemd/system/local-fs.target.wants/rpi-resize.service", "");
    put(state, "trixie/etc/systemd/system/timers.target.wants/fstrim.timer", "");
    put(state, "trixie/etc/systemd/system/timers.target.wants/apt-daily.timer", "");
    check_proposals(state, "trixie", "boot/firmware",
                    "boot/firmware/cmdline.txt -1: console=tty1 root=/dev/nfs nfsroot=${server}:${rootfs},vers=3,"
                    "proto=tcp rw ip=dhcp rootwait|\n"
                    "boot/firmware/config.txt -1: #auto_initramfs=1|\n"
                    "etc/NetworkManager/conf.d/coppice.conf 644: # The root file system comes through it.|[keyfil"
                    "e]|unmanaged-devices=interface-name:eth0;interface-name:end0|\n"
                    "etc/fstab -1: \n"
                    "etc/hostname -1: ${hostname}|\n"
                    "etc/hosts -1: 127.0.1.1\t${hostname}|# $${y}|\n"
                    "etc/machine-id -1: \n"
                    "etc/rpi/swap.conf.d/90-coppice.conf 644: [Main]|Mechanism=zram|\n"
                    "etc/systemd/system/local-fs.target.wants/rpi-resize.service -1: (removed)\n"
                    "etc/systemd/system/timers.target.wants/fstrim.timer -1: (removed)\n");
}

static void test_bullseye(void **state)
{
    put(state, "bullseye/boot/cmdline.txt", "root=PARTUUID=1-02 rootwait init=/usr/lib/raspi-config/init_resize.sh\n");
    put(state, "bullseye/boot/kernel8.img", "");
    put(state, "bullseye/etc/dhcpcd.conf", "persistent\n");
    put(state, "bullseye/etc/network/interfaces", "source-directory /etc/network/interfaces.d\n");
    put(state, "bullseye/etc/network/interfaces.d/wired", "allow-hotplug eth0\n");
    put(state, "bullseye/etc/rc3.d/S01resize2fs_once", "");
    put(state, "bullseye/etc/rc3.d/S01dphys-swapfile", "");
    put(state, "bullseye/etc/rc3.d/S01cron", "");
    put(state, "bullseye/etc/systemd/system/multi-user.target.wants/dphys-swapfile.service", "");
    put(state, "bullseye/etc/machine-id", "");
    put(state, "bullseye/etc/ssh/ssh_config", "");
    check_proposals(state, "bullseye", "boot",
                    "boot/cmdline.txt -1: root=/dev/nfs nfsroot=${server}:${rootfs},vers=3,proto=tcp rw ip=dhcp r"
                    "ootwait|\n"
                    "etc/dhcpcd.conf -1: persistent||# The root file system comes through it, with the address th"
                    "at the kernel got.|denyinterfaces eth0|\n"
                    "etc/network/interfaces.d/wired -1: #allow-hotplug eth0|\n"
                    "etc/rc3.d/S01dphys-swapfile -1: (removed)\n"
                    "etc/rc3.d/S01resize2fs_once -1: (removed)\n"
                    "etc/systemd/system/multi-user.target.wants/dphys-swapfile.service -1: (removed)\n");
}

/* Its images have no ssh keys: the init that is taken out of cmdline.txt makes them. */
static void test_bookworm(void **state)
{
    put(state, "bookworm/boot/firmware/cmdline.txt", "root=PARTUUID=1-02 rootwait init=/usr/lib/raspberrypi-sys-mods/firstboot\n");
    put(state, "bookworm/boot/config-6.1.0-rpi7-rpi-v8", "# Linux\nCONFIG_ROOT_NFS=y\n");
    put(state, "bookworm/boot/firmware/user-data", "hostname: raspberrypi\n");
    put(state, "bookworm/usr/sbin/sshd", "");
    put(state, "bookworm/usr/bin/ssh-keygen", "");
    check_proposals(state, "bookworm", "boot/firmware",
                    "boot/firmware/cmdline.txt -1: " NFS_WORDS "|\n"
                    "boot/firmware/user-data -1: hostname: ${hostname}|\n"
                    "etc/systemd/system/ssh.service.d/coppice.conf 644: [Service]|ExecStartPre=|ExecStartPre=/usr"
                    "/bin/ssh-keygen -A|ExecStartPre=/usr/sbin/sshd -t|\n");
}

static void test_dietpi(void **state)
{
    put(state, "dietpi/boot/cmdline.txt", "root=PARTUUID=1-02 rootfstype=ext4 rootwait\n");
    put(state, "dietpi/boot/kernel8.img", "");
    put(state, "dietpi/boot/dietpi.txt", "AUTO_SETUP_NET_HOSTNAME=DietPi\n");
    put(state, "dietpi/etc/network/interfaces", "allow-hotplug eth0\niface eth0 inet dhcp\naddress 192.168.0.100\n");
    put(state, "dietpi/etc/dropbear/dropbear_ed25519_host_key", "secret");
    put(state, "dietpi/etc/systemd/system/dietpi-fs_partition_resize.service", "[Unit]\n");
    put(state, "dietpi/etc/systemd/system/local-fs.target.wants/dietpi-fs_partition_resize.service", "");
    check_proposals(state, "dietpi", "boot",
                    "boot/cmdline.txt -1: " NFS_WORDS "|\n"
                    "boot/dietpi.txt -1: AUTO_SETUP_NET_HOSTNAME=${hostname}|\n"
                    "etc/dropbear/dropbear_ed25519_host_key -1: (removed)\n"
                    "etc/network/interfaces -1: #allow-hotplug eth0|#iface eth0 inet dhcp|#address 192.168.0.100|\n"
                    "etc/systemd/system/dropbear.service.d/coppice.conf 644: [Service]|ExecStartPre=/bin/sh -c 'for t in "
                    "rsa ecdsa ed25519; do f=/etc/dropbear/dropbear_\"$$t\"_host_key; [ -s \"$$f\" ] || dropbearkey -t $$t "
                    "-f \"$$f\"; done; :'|\n"
                    "etc/systemd/system/local-fs.target.wants/dietpi-fs_partition_resize.service -1: (removed)\n");
}

static void test_debian(void **state)
{
    put(state, "debian/boot/firmware/cmdline.txt", "root=LABEL=RASPIROOT rw\n");
    put(state, "debian/boot/firmware/config.txt", "initramfs initrd.img-6.1.0 followkernel\n");
    put(state, "debian/boot/config-6.1.0-arm64", "CONFIG_NFS_FS=m\n# CONFIG_ROOT_NFS is not set\n");
    put(state, "debian/etc/systemd/network/10-wired.network", "[Match]\nName=en*\n");
    put(state, "debian/etc/ssh/ssh_host_ed25519_key", "secret");
    put(state, "debian/usr/bin/ssh-keygen", "");
    check_proposals(state, "debian", "boot/firmware",
                    "boot/firmware/cmdline.txt -1: boot=nfs root=/dev/nfs nfsroot=${server}:${rootfs},vers=3,tcp "
                    "rw ip=dhcp rootwait|\n"
                    "etc/ssh/ssh_host_ed25519_key -1: (removed)\n"
                    "etc/systemd/network/10-wired.network.d/coppice.conf 644: [Network]|KeepConfiguration=yes|\n"
                    "etc/systemd/system/ssh.service.d/coppice.conf 644: [Service]|ExecStartPre=|ExecStartPre=/usr"
                    "/bin/ssh-keygen -A|ExecStartPre=/usr/sbin/sshd -t|\n");
}

/* An image that is no system of its own has nothing to change. */
static void test_nothing(void **state)
{
    put(state, "plain/etc/os-release", "ID=debian\n");
    check_proposals(state, "plain", "boot", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cmdline),     cmocka_unit_test(test_the_kernel_finds_the_root_of_the_howto),
        cmocka_unit_test(test_pxelinux),    cmocka_unit_test(test_config),      cmocka_unit_test(test_fstab),
        cmocka_unit_test(test_interfaces),  cmocka_unit_test(test_other_files),
        cmocka_unit_test(test_trixie),      cmocka_unit_test(test_bullseye),
        cmocka_unit_test(test_bookworm),    cmocka_unit_test(test_dietpi),
        cmocka_unit_test(test_debian),      cmocka_unit_test(test_nothing),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
