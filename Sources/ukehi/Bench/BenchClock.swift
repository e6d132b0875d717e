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
        guard let file = fopen("/proc/self/status", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        while fgets(&line, 256, file) != nil {
            let bytes = line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:))
            let text = String(decoding: bytes, as: UTF8.self)
            if let kilobytes = parse(statusLine: text) { return Double(kilobytes) / 1024 }
        }
        return 0
    }

    /// The kibibytes of a `VmRSS:` line, nil for any other line.
    static func parse(statusLine: String) -> Int? {
        guard statusLine.hasPrefix("VmRSS:") else { return nil }
        return Int(statusLine.filter { $0.isNumber })
    }
}
