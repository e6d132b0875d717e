// The benchmark's clock and the process's use of the machine.

import Glibc

/// CLOCK_MONOTONIC, which the ack log and the history are written in.
enum BenchClock {
    /// Nanoseconds since some fixed point; about 20 ns a call.
    @inline(__always)
    static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(bitPattern: Int64(time.tv_sec)) &* 1_000_000_000
            &+ UInt64(bitPattern: Int64(time.tv_nsec))
    }

    /// Waits on the caller's thread; only for the thread that watches a run.
    static func pause(nanoseconds: UInt64) {
        var time = timespec(
            tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
        var left = timespec()
        while nanosleep(&time, &left) != 0 && errno == EINTR { time = left }
    }
}

/// Time that something took: on the wall, and of the calling thread on a processor. The second leaves out
/// what other programs on the machine cost, and waiting for the disk.
struct Stretch: Equatable, Sendable {
    var wall: UInt64 = 0
    var processor: UInt64 = 0

    /// Now, on both clocks.
    static func now() -> Stretch {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Stretch(
            wall: BenchClock.now(),
            processor: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
    }

    static func - (a: Stretch, b: Stretch) -> Stretch {
        Stretch(wall: a.wall &- b.wall, processor: a.processor &- b.processor)
    }
    static func += (a: inout Stretch, b: Stretch) {
        a.wall &+= b.wall
        a.processor &+= b.processor
    }
}

/// What the process has used.
struct ProcessUsage: Sendable {
    /// User and system time of all threads.
    var cpuSeconds: Double

    static func now() -> ProcessUsage {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        func seconds(_ time: timeval) -> Double {
            Double(time.tv_sec) + Double(time.tv_usec) / 1e6
        }
        return ProcessUsage(cpuSeconds: seconds(usage.ru_utime) + seconds(usage.ru_stime))
    }

    /// Resident memory in MiB; 0 where /proc is missing.
    static func residentMegabytes() -> Double {
        Double(first(in: "/proc/self/status", parse(statusLine:)) ?? 0) / 1024
    }

    /// Bytes that the process had written to devices; 0 where /proc is missing.
    static func writtenBytes() -> UInt64 {
        first(in: "/proc/self/io") { line in
            let name = "write_bytes:"
            guard line.hasPrefix(name) else { return nil }
            return UInt64(line.dropFirst(name.count).filter { $0.isNumber })
        } ?? 0
    }

    /// What `parse` makes of the first line that it takes.
    private static func first<R>(in path: String, _ parse: (String) -> R?) -> R? {
        guard let file = fopen(path, "r") else { return nil }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        while fgets(&line, 256, file) != nil {
            let bytes = line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:))
            if let value = parse(String(decoding: bytes, as: UTF8.self)) { return value }
        }
        return nil
    }

    /// The kibibytes of a `VmRSS:` line, nil for any other line.
    static func parse(statusLine: String) -> Int? {
        guard statusLine.hasPrefix("VmRSS:") else { return nil }
        return Int(statusLine.filter { $0.isNumber })
    }
}
