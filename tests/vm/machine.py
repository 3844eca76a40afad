"""machine: one virtual machine under QEMU, its console log, and commands in it through the agent (see `agent`)."""

import base64
import os
import shlex
import signal
import socket
import subprocess
import threading
import time

# Every time limit is multiplied by it: for machines that have other work as well.
FACTOR = float(os.environ.get("COPPICE_VM_FACTOR", "1"))
# How often a machine is switched on again whose kernel died on its own, as emulated ones do: before it ran any program.
AGAIN = 2


class Failure(Exception):
    """What a scenario found wrong, in one line."""


class Job:
    """A command under way in a machine."""

    def __init__(self, machine, command):
        self.machine = machine
        self.command = command
        self.begun = time.monotonic()
        self.ended = None
        self.status = None
        self.output = ""
        self.done = threading.Event()

    def wait(self, timeout=60, check=True):
        """The output. A failure when it takes longer or, with check, when the command's status is not 0."""
        if not self.done.wait(timeout * FACTOR):
            raise Failure(f"{self.machine.name}: not done in {timeout * FACTOR:.0f} s: {self.command}")
        if self.status is None:
            raise Failure(f"{self.machine.name}: went away during: {self.command}")
        if check and self.status != 0:
            raise Failure(f"{self.machine.name}: status {self.status}: {self.command}\n{self.output.strip()[-3000:]}")
        return self.output.strip()

    def seconds(self):
        return (self.ended or time.monotonic()) - self.begun


class Machine:
    """Arguments are QEMU's, besides what every machine has: console, agent, random numbers, no other devices."""

    qemu = "qemu-system-x86_64"
    board = ["-accel", os.environ.get("COPPICE_VM_ACCEL", "tcg,thread=multi"), "-machine", "pc,graphics=off",
             # QEMU 7.2's emulation of newer processors (max) is not right: with cx16 Linux 6.12 dies at boot in a third
             # of the runs, and without it systemd's mounts fail in some.
             "-cpu", "Nehalem,-cx16"]

    def __init__(self, name, directory, arguments):
        self.name = name
        self.arguments = arguments
        self.log = os.path.join(directory, f"{name}.console")
        self.socket_path = os.path.join(directory, f"{name}.agent")
        self.process = None
        self.switched_on_at = 0  # where in the log
        self.channel = None
        self.jobs = {}
        self.lock = threading.Lock()
        self.ready = threading.Event()

    def start(self):
        """Switches it on."""
        if os.path.exists(self.socket_path):
            os.unlink(self.socket_path)
        self.ready.clear()
        with open(self.log, "ab") as log:
            self.switched_on_at = log.tell()
            log.write(f"\n==== {self.name} switched on, {time.strftime('%T')} ====\n".encode())
            # However this program ends, the machines end with it.
            command = ["setpriv", "--pdeathsig", "KILL", self.qemu, "-name", self.name, *self.board, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                       "-chardev", f"file,id=console,path={self.log},append=on", "-serial", "chardev:console",
                       "-chardev", f"socket,id=agent,path={self.socket_path},server=on,wait=off",
                       "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=agent",
                       "-device", "virtio-rng-pci", *self.arguments]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()

    def _connect(self, process):
        while process.poll() is None:
            channel = socket.socket(socket.AF_UNIX)
            try:
                channel.connect(self.socket_path)
                return channel
            except OSError:
                channel.close()
                time.sleep(0.05)
        return None

    def _read(self, process):
        channel = self._connect(process)
        if channel:
            self.channel = channel
            try:
                for line in channel.makefile("r", encoding="ascii", errors="replace"):
                    self._take(line.split())
            except OSError:
                pass
        with self.lock:
            lost, self.jobs = self.jobs, {}
        for job in lost.values():
            job.done.set()

    def _take(self, words):
        if words == ["ready"]:
            self.ready.set()
        elif len(words) in (2, 3):
            with self.lock:
                job = self.jobs.pop(words[0], None)
            if job:
                job.status = int(words[1])
                job.output = base64.b64decode(words[2]).decode(errors="replace") if len(words) == 3 else ""
                job.ended = time.monotonic()
                job.done.set()

    def _said(self):
        """On its console since it was switched on."""
        with open(self.log, encoding="ascii", errors="replace") as log:
            log.seek(self.switched_on_at)
            return log.read()

    def _died_as_kernel(self):
        """Whether it ended before it ran a program: all there was of it was Linux, and QEMU's emulation of it."""
        said = self._said()
        return "Linux version " in said and " as init process" not in said

    def _why_off(self):
        words = self._said().strip().splitlines()
        return f"QEMU's status {self.process.returncode}, {words[-1] if words else 'no word'!r}"

    def wait_up(self, timeout=300):
        """Waits until the machine takes commands, which is when its system is up; returns the seconds it took."""
        begun, deaths = time.monotonic(), 0
        while not self.ready.wait(0.2):
            if self.process.poll() is not None:
                if deaths == AGAIN or not self._died_as_kernel():
                    raise Failure(f"{self.name}: switched itself off while booting ({self._why_off()}); see {self.log}")
                deaths += 1
                print(f"   {self.name}: the emulated kernel died before it ran a program ({self._why_off()}); switched on again", flush=True)
                self.start()
            if time.monotonic() - begun > timeout * FACTOR:
                raise Failure(f"{self.name}: not up in {timeout * FACTOR:.0f} s; see {self.log}")
        return time.monotonic() - begun

    def begin(self, command):
        """Starts a shell command in it; returns its Job."""
        job = Job(self, command)
        with self.lock:
            number = f"{time.monotonic_ns()}"
            self.jobs[number] = job
        self.channel.sendall(f"{number} {base64.b64encode(command.encode()).decode()}\n".encode())
        return job

    def run(self, command, timeout=60, check=True):
        """Runs a shell command in it; returns what it printed."""
        return self.begin(command).wait(timeout, check)

    def status(self, command, timeout=60):
        job = self.begin(command)
        job.wait(timeout, check=False)
        return job.status

    def write(self, path, text):
        """Writes a small file in it."""
        coded = base64.b64encode(text.encode()).decode()
        self.run(f"mkdir -p $(dirname {shlex.quote(path)}) && base64 -d <<<{coded} >{shlex.quote(path)}")

    def is_on(self):
        return self.process is not None and self.process.poll() is None

    def cpu_seconds(self):
        if not self.is_on():
            return 0.0
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            words = stat.read().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def cut_power(self):
        """Off, as when the plug is pulled: what the machine's kernel had not given to its disk is lost."""
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.ready.clear()

    def wait_off(self, timeout=120):
        """Waits until it has switched itself off or wants to boot again, which is the same here (-no-reboot)."""
        try:
            self.process.wait(timeout * FACTOR)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name}: still on after {timeout * FACTOR:.0f} s; see {self.log}") from None
        self.ready.clear()

    def reboot(self, timeout=300):
        """Asks its system to reboot, and waits until it is up again; returns the seconds the boot took."""
        self.begin("systemctl reboot")
        self.wait_off()
        self.start()
        return self.wait_up(timeout)


class Arm64(Machine):
    """Its firmware is U-Boot, which asks by DHCP and TFTP for a script."""

    qemu = "qemu-system-aarch64"
    firmware = "/usr/lib/u-boot/qemu_arm64/u-boot.bin"
    board = ["-accel", "tcg,thread=multi", "-machine", "virt", "-cpu", "cortex-a53", "-bios", firmware]
