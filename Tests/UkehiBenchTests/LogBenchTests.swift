import Testing
import UkehiBase

@testable import UkehiCommand

/// The benchmark of the log: what it refuses to run, and what it says.
@Suite("bench wal: settings and report")
struct LogBenchTests {
    @Test("lists make a row for each combination; without any there is the standard table")
    func rows() throws {
        let rows = LogBenchSettings.rows(appenders: [1, 64], entryBytes: [128], regions: [1, 100])
        #expect(
            rows.map { [$0.appenders, $0.entryBytes, $0.regions] } == [
                [1, 128, 1], [1, 128, 100], [64, 128, 1], [64, 128, 100],
            ])
        #expect(LogBenchSettings().problems.isEmpty)
        let list = try #require(LogBench.NumberList(argument: "1,64"))
        #expect(list.values == [1, 64])
        #expect(LogBench.NumberList(argument: "1,,2") == nil)
        #expect(LogBench.NumberList(argument: "") == nil)
    }

    @Test("all that is impossible is refused at once")
    func problems() {
        var settings = LogBenchSettings()
        settings.rows = [LogBenchRow(appenders: 0, entryBytes: 1, regions: 0)]
        settings.seconds = 0
        settings.segmentMegabytes = 0
        settings.framesInFlight = 65
        settings.batchEntries = 0
        #expect(settings.problems.count == 7)
    }

    @Test("figures are divided by those of the bare disk")
    func ratios() {
        var result = LogBenchResult(
            row: LogBenchRow(appenders: 64, entryBytes: 100, regions: 1), difference: "")
        result.difference = nil
        result.seconds = 2
        result.entries = 20_000
        result.syncs = 2000
        result.frames = 2000
        result.frameBytes = 4_000_000
        result.cpuSeconds = 0.01
        result.latencies.p50 = 300
        let latencies = LatencyRecorder()
        for _ in 0..<500 { latencies.record(200_000) }
        result.raw.add(bytes: 4096, latencies, nanoseconds: 1_000_000_000)
        result.rawFrames.add(bytes: 4096, latencies, nanoseconds: 500_000_000)
        result.rawDeep.add(bytes: 4096, latencies, nanoseconds: 250_000_000)
        #expect(result.entriesPerSecond == 10_000)
        #expect(result.entriesPerSync == 10)
        #expect(result.bytesPerEntryByte == 2)
        #expect(result.megabytesPerSecond == 1)
        #expect(result.cpuMicrosecondsPerEntry == 0.5)
        #expect(result.entriesPerRawSync == 20)
        #expect(abs(result.p50OfRaw - 1.5) < 1e-3)
        #expect(abs(result.bandwidthOfRaw - 2 / 4.096) < 1e-9)
        #expect(abs(result.bandwidthOfDeep - 1 / 4.096) < 1e-9)
        var report = LogBenchReport(settings: LogBenchSettings())
        report.rows = [result]
        #expect(report.table.contains("verified"))
        #expect(report.json.text.contains("\"entries_per_raw_sync\":20,\"p50_to_raw\":1."))
        #expect(report.json.text.hasSuffix("\"verified\":true,\"difference\":null}"))
        report.rows[0].difference = "entry 7 is gone"
        #expect(report.table.contains("WRONG"))
        #expect(report.json.text.contains("\"verified\":false"))
    }

    @Test("payloads differ by region and index, and are the same again")
    func payloads() {
        let payloads = LogPayloads(entryBytes: 128)
        let again = LogPayloads(entryBytes: 128)
        var seen: Set<Bytes> = []
        for region in 0..<10 {
            for index in UInt64(1)...100 {
                let payload = payloads.payload(region: region, index: index)
                #expect(payload.count == 128)
                #expect(payload == again.payload(region: region, index: index))
                seen.insert(payload)
            }
        }
        #expect(seen.count > 990)
    }
}
