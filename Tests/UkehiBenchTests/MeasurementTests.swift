import Testing
import UkehiBase

@testable import UkehiCommand

/// What the benchmark measures with: latencies, the disk, the process.
@Suite("bench: measuring")
struct MeasurementTests {
    @Test("percentiles are within 0.2 % of the exact ones")
    func percentiles() {
        let recorder = LatencyRecorder()
        for microsecond in UInt64(1)...100_000 { recorder.record(microsecond * 1000) }
        let summary = recorder.summary()
        #expect(summary.count == 100_000)
        for (found, exact) in [
            (summary.p50, 50_000.0), (summary.p90, 90_000), (summary.p99, 99_000),
            (summary.p999, 99_900),
        ] {
            #expect(abs(found - exact) / exact < 0.002)
        }
        #expect(summary.max == 100_000)
    }

    @Test(
        "small and huge latencies find a slot",
        arguments: [0, 1, 2047, 2048, 4095, 4096, 1 << 39])
    func edges(nanoseconds: UInt64) {
        let recorder = LatencyRecorder()
        recorder.record(nanoseconds)
        let found = recorder.summary().p50 * 1000
        #expect(abs(found - Double(nanoseconds)) <= Double(nanoseconds) * 0.001)
    }

    @Test("what is past 18 minutes counts as that, its maximum is kept")
    func overflow() {
        let recorder = LatencyRecorder()
        recorder.record(.max)
        #expect(recorder.total == 1)
        #expect(recorder.maximum == .max)
    }

    @Test("merging adds, subtracting leaves what came since")
    func mergeAndSubtract() {
        let a = LatencyRecorder()
        let b = LatencyRecorder()
        a.record(1000)
        b.record(3_000_000)
        b.add(a)
        #expect(b.total == 2)
        #expect(b.summary().max == 3000)
        b.subtract(a)
        #expect(b.total == 1)
        #expect(b.summary().p50 >= 2990)
    }

    @Test("nothing recorded is all zero")
    func empty() { #expect(LatencyRecorder().summary() == LatencySummary()) }

    @Test("the disk's ceiling is measured and leaves nothing behind")
    func disk() throws {
        let directory = try TemporaryDirectory()
        let disk = try DiskCeiling.measure(in: directory.path, seconds: 0.1)
        #expect(disk.fdatasyncPerSecond > 0)
        #expect(disk.fdatasyncP50Microseconds > 0)
        #expect(disk.sequentialMegabytesPerSecond > 0)
        #expect(directory.names.isEmpty)
    }

    @Test("a directory that is not there is an error that says so")
    func noDirectory() {
        #expect(throws: BenchFileError.self) {
            try DiskCeiling.measure(in: "/nonexistent/ukehi", seconds: 0.1)
        }
    }

    @Test("the process has used time and memory")
    func usage() {
        #expect(ProcessUsage.now().cpuSeconds > 0)
        #expect(ProcessUsage.residentMegabytes() > 1)
        #expect(ProcessUsage.parse(statusLine: "VmRSS:\t  123456 kB\n") == 123456)
        #expect(ProcessUsage.parse(statusLine: "VmSize:\t  123456 kB\n") == nil)
    }
}
