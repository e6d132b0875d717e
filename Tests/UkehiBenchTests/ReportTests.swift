import Testing

@testable import UkehiCommand

/// What a run says of itself, and what it refuses to run.
@Suite("bench: settings and report")
struct ReportTests {
    private func settings() throws -> BenchSettings {
        BenchSettings(mix: try #require(OperationMix(readRatio: 0.5)))
    }

    private func report() throws -> BenchReport {
        var report = BenchReport(settings: try settings(), seconds: 10)
        report.writes = LatencySummary(
            count: 1_000_000, p50: 1500, p90: 2000, p99: 4000.5, p999: 8000, max: 12_000)
        report.logs = [
            LogCounters(fsyncs: 20_000, bytesWritten: 200_000_000),
            LogCounters(fsyncs: 30_000, bytesWritten: 200_000_000),
        ]
        report.cpuSeconds = 4
        report.disk = DiskCeiling(
            fdatasyncPerSecond: 5000, fdatasyncP50Microseconds: 200,
            sequentialMegabytesPerSecond: 900)
        report.verification = VerificationResult(summary: "all well")
        return report
    }

    @Test("rates and ratios are computed per node and per write")
    func figures() throws {
        let report = try report()
        #expect(report.writesPerSecond == 100_000)
        #expect(report.fsyncsPerSecond == 2500)
        #expect(report.writesPerFsync == 40)
        #expect(report.bytesPerWrite == 200)
        #expect(report.cpuSecondsPerMillion == 4)
    }

    @Test("the JSON object has every promised field")
    func json() throws {
        let text = try report().json.text
        for field in [
            "\"writes_per_second\":100000", "\"reads_per_second\":0",
            "\"latency_us\":{\"writes\":{",
            "\"p50\":1500", "\"p90\":2000", "\"p99\":4000.5", "\"p999\":8000", "\"max\":12000",
            "\"fsyncs_per_second\":2500", "\"writes_per_fsync\":40",
            "\"cpu_seconds_per_million_operations\":4", "\"resident_mb\":", "\"verified\":true",
            "\"durability\":\"fsync", "\"fdatasync_per_second\":5000", "\"fdatasync_p50_us\":200",
            "\"sequential_mb_per_second\":900", "\"settings\":{", "\"writes_to_fdatasync\":20",
        ] {
            #expect(text.contains(field), "\(field) is missing")
        }
    }

    @Test("a run without fsync says so, in both forms")
    func unsafeIsNamed() throws {
        var report = try report()
        report.settings.isSynced = false
        #expect(report.table.contains("UNSAFE"))
        #expect(report.json.text.contains("\"durability\":\"UNSAFE"))
    }

    @Test("a difference is told and the run is not verified")
    func difference() throws {
        var report = try report()
        report.verification.difference = "key 7 has an older value"
        #expect(!report.isVerified)
        #expect(report.table.contains("key 7 has an older value"))
        #expect(report.json.text.contains("\"verified\":false"))
    }

    @Test("numbers as people read them")
    func formats() {
        #expect(BenchFormat.count(1_234_567) == "1,234,567")
        #expect(BenchFormat.count(999) == "999")
        #expect(BenchFormat.count(2.25) == "2.3")
        #expect(BenchFormat.time(0) == "-")
        #expect(BenchFormat.time(850) == "850 µs")
        #expect(BenchFormat.time(1234) == "1.23 ms")
        #expect(BenchFormat.time(2_100_000) == "2.10 s")
        #expect(BenchFormat.ratio(0.456) == "0.46")
        #expect(JSONValue.number(0.1234).text == "0.123")
        #expect(JSONValue.number(-0.5).text == "-0.5")
        #expect(JSONValue.number(.nan).text == "null")
        #expect(JSONValue.string("a\"\\\n").text == "\"a\\\"\\\\\\u000a\"")
    }

    @Test("the defaults are possible")
    func defaults() throws { #expect(BenchSettings.problems(try settings()).isEmpty) }

    @Test("all that is impossible is told at once, each with its option")
    func problems() throws {
        var settings = try settings()
        settings.nodes = 0
        settings.regions = 0
        settings.clients = 0
        settings.keyBytes = 4
        settings.valueBytes = 9 << 20
        settings.durationSeconds = 0
        settings.state = .none
        let problems = BenchSettings.problems(settings)
        for option in [
            "--nodes", "--regions", "--clients", "--key-size", "--value-size", "--duration",
            "--state",
        ] {
            #expect(problems.contains { $0.contains(option) }, "\(option)")
        }
    }

    @Test("mixes are drawn in proportion")
    func mix() throws {
        let mix = try #require(OperationMix(parsing: "get=50,put=40,cas=8,delete=2"))
        var random = BenchRandom(seed: 3)
        var counts: [OperationKind: Int] = [:]
        for _ in 0..<100_000 { counts[mix.kind(random.next()), default: 0] += 1 }
        #expect(abs((counts[.get] ?? 0) - 50_000) < 1000)
        #expect(abs((counts[.put] ?? 0) - 40_000) < 1000)
        #expect(abs((counts[.cas] ?? 0) - 8000) < 500)
        #expect(abs((counts[.delete] ?? 0) - 2000) < 300)
        #expect(!mix.isPlain && mix.reads)
    }

    @Test(
        "what is not a mix is refused",
        arguments: ["", "get", "get=", "get=0", "get=-1", "put=1,put=1", "take=1", "get=1,"])
    func badMix(text: String) { #expect(OperationMix(parsing: text) == nil) }

    @Test("only the extremes draw one kind")
    func readRatio() throws {
        let writes = try #require(OperationMix(readRatio: 0))
        let reads = try #require(OperationMix(readRatio: 1))
        var random = BenchRandom(seed: 4)
        for _ in 0..<1000 {
            #expect(writes.kind(random.next()) == .put)
            #expect(reads.kind(random.next()) == .get)
        }
        #expect(writes.kind(.max) == .put && reads.kind(.max) == .get)
        #expect(OperationMix(readRatio: 1.1) == nil)
    }
}
