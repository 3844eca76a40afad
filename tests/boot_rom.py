"""boot_rom.py INTERFACE pi3|pi4|pi5 SERIAL [ADDRESS]: asks for its files as the boot ROM of a Raspberry Pi does.

DHCP with the ROM's options until an offer's option 43 holds "Raspberry Pi Boot", then each file by TFTP from the server
that made it, in the order that logs of real boards show. ADDRESS: its own, given by another DHCP server; else the offer's is requested. A line for each step:
"offer ADDRESS from SERVER", "got NAME SIZE CRC", "missing NAME"; the last is "boots" or says what is missing.
"""
import fcntl
import socket
import struct
import subprocess
import sys
import time
import zlib

interface, model, serial = sys.argv[1:4]
address = sys.argv[4] if len(sys.argv) > 4 else None
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    SIOCGIFHWADDR = 0x8927
    mac = fcntl.ioctl(s, SIOCGIFHWADDR, struct.pack("256s", interface.encode()))[18:24]
tail = serial[-8:].lower()
xid = zlib.crc32(mac + struct.pack("d", time.time()))


def die(text):
    print(text)
    sys.exit(1)


def option97():
    """Pi 3: its serial four times, or a constant (which serial 44444444 gives); Pi 4: "RPi4", board revision, end of MAC,
    serial, as little-endian words."""
    if model == "pi3":
        return b"\0" + struct.pack("<I", int(tail, 16)) * 4
    return b"\0RPi4" + struct.pack("<I", 0xC03112) + mac[2:] + struct.pack("<I", int(tail, 16))


def packet(kind, extra=b""):
    head = struct.pack("!BBBBIHH", 1, 1, 6, 0, xid, 0, 0x8000) + bytes(16) + mac + bytes(10 + 192)
    vendor = b"PXEClient:Arch:00000:UNDI:002001"
    options = b"\x63\x82\x53\x63" + bytes([53, 1, kind]) + b"\x37\x0c\x2b\x3c\x43\x80\x81\x82\x83\x84\x85\x86\x87\x42"
    options += b"\x5d\x02\0\0" + b"\x5e\x03\x01\x02\x01" + bytes([97, 17]) + option97()
    return head + options + bytes([60, len(vendor)]) + vendor + extra + b"\xff"


def read_options(data):
    options, at = {}, 240
    while at < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        options[data[at]] = data[at + 2:at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return options


def answer(sock, kind):
    """The first answer of that kind that a ROM accepts: (address, server, options)."""
    end = time.time() + 4
    while time.time() < end:
        sock.settimeout(max(end - time.time(), 0.01))
        try:
            data = sock.recv(2048)
        except socket.timeout:
            return None
        options = read_options(data)
        if data[4:8] != struct.pack("!I", xid) or options.get(53) != bytes([kind]):
            continue
        if b"Raspberry Pi Boot" not in options.get(43, b""):
            print("offer without 'Raspberry Pi Boot' in option 43")
            continue
        return socket.inet_ntoa(data[16:20]), socket.inet_ntoa(options[54]), options
    return None


def dhcp():
    global address
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    sock.bind(("", 68))
    found = None
    for _ in range(3):
        sock.sendto(packet(1), ("255.255.255.255", 67))
        found = answer(sock, 2)
        if found:
            break
    if not found:
        die("no offer that a boot ROM takes")
    print(f"offer {found[0]} from {found[1]}")
    if not address:
        address = found[0]
        wanted = bytes([50, 4]) + socket.inet_aton(address) + bytes([54, 4]) + socket.inet_aton(found[1])
        sock.sendto(packet(3, wanted), ("255.255.255.255", 67))
        if not answer(sock, 5):
            die("no lease")
    sock.close()
    subprocess.run(["ip", "addr", "replace", address + "/16", "dev", interface], check=True)
    return found[1]


def tftp(server, name):
    """The file's bytes; None: the server says that it is not there."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(3)
    request = b"\0\1" + name.encode() + b"\0octet\0tsize\0" + b"0\0blksize\0" + b"1024\0"
    sock.sendto(request, (server, 69))
    data, size, expected = bytearray(), 512, 1
    while True:
        try:
            reply, peer = sock.recvfrom(4096)
        except socket.timeout:
            die(f"no answer to {name}")
        kind, block = struct.unpack("!HH", reply[:4])
        if kind == 5:
            return None
        if kind == 6:
            size = 1024
            sock.sendto(struct.pack("!HH", 4, 0), peer)
            continue
        sock.sendto(struct.pack("!HH", 4, block), peer)
        if block != expected & 0xFFFF:
            continue
        data += reply[4:]
        expected += 1
        if len(reply) - 4 < size:
            return data


def fetch(server, name, needed=False):
    data = tftp(server, name)
    if data is None:
        print(f"missing {name}")
        if needed:
            die(f"stuck: {name}")
        return False
    print(f"got {name} {len(data)} {zlib.crc32(data):08x}")
    return True


def settings(text):
    """config.txt as far as it says what to load: lines of [all], of the model's section, and before any section."""
    found, in_effect = {}, True
    for line in bytes(text or b"").decode("latin-1").splitlines():
        if line.startswith("["):
            in_effect = line.startswith("[all]") or line.startswith(f"[{model}")
        elif in_effect and line.startswith("initramfs "):
            found["initramfs"] = line.split()[1]
        elif in_effect and "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found[name.strip()] = value.strip()
    return found


def fetch_first(server, names, what):
    if not any(fetch(server, name) for name in names):
        die(f"stuck: {what}")


BOARDS = {
    # first stage's file and its counterpart, the device tree of Raspberry Pi's kernel and of Linux's own, kernels
    "pi3": ("start.elf", "fixup.dat", "bcm2710-rpi-3-b.dtb", "bcm2837-rpi-3-b.dtb", ["kernel8.img", "kernel7.img"]),
    "pi4": ("start4.elf", "fixup4.dat", "bcm2711-rpi-4-b.dtb", "bcm2711-rpi-4-b.dtb", ["kernel8.img", "kernel7l.img"]),
    "pi5": (None, None, "bcm2712-rpi-5-b.dtb", "bcm2712-rpi-5-b.dtb", ["kernel_2712.img", "kernel8.img"]),
}
server = dhcp()
start, fixup, tree, own_tree, kernels = BOARDS[model]
if model == "pi3":
    fetch(server, "bootcode.bin", True)
    fetch(server, "bootsig.bin")
# A Pi 5 has its first stage in flash memory.
prefix = f"{tail}/" if fetch(server, f"{tail}/{start or 'config.txt'}") else ""
fetch(server, prefix + "config.txt")
config = settings(tftp(server, prefix + "config.txt"))
if start:
    if not prefix:
        fetch(server, start, True)
    fetch(server, prefix + fixup, True)
fetch(server, prefix + (own_tree if config.get("upstream_kernel") == "1" else tree))
fetch(server, prefix + "cmdline.txt", True)
fetch_first(server, [prefix + name for name in ([config["kernel"]] if "kernel" in config else kernels)], "kernel")
if "initramfs" in config:
    fetch(server, prefix + config["initramfs"], True)
print("boots")
