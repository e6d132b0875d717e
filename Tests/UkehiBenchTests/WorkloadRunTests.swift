import Testing
import UkehiNode
import _UkehiTestSupport

@testable import UkehiCommand

/// Short whole runs of named workloads, splits and many regions, on real nodes.
@Suite("bench: whole runs of workloads", .prompt, .serialized)
struct WorkloadRunTests {
    private func settings(
        _ workload: WorkloadKind, _ state: BenchState, nodes: Int
    ) throws -> BenchSettings {
        let mix = workload.mix ?? OperationMix(readRatio: 0)
        var settings = BenchSettings(mix: try #require(mix))
        settings.workload = workload
        settings.nodes = nodes
        settings.state = state
        settings.regions = 4
        settings.clients = 16
        settings.keys = 300
        // Measured by what was done, not by the clock: a busy machine may do nothing for a while.
        settings.durationSeconds = 0.01
        settings.leastAnswers = 400
        settings.warmUpSeconds = 0
        settings.isJSON = true
        return settings
    }

    private func run(_ settings: BenchSettings) async throws -> BenchReport {
        let directory = try TemporaryDirectory()
        var settings = settings
        settings.dataDirectory = directory.path + "/data"
        defer { DirectoryTree.remove(directory.path + "/data") }
        return try await BenchRun(settings: settings).run()
    }

    @Test("read-modify-writes of all clients on all keys, with a history and a picture")
    func readModifyWrite() async throws {
        let files = try TemporaryDirectory()
        var settings = try settings(.ycsbF, .memory, nodes: 3)
        settings.plot = files.path + "/plot.svg"
        settings.history = files.path + "/history"
        let report = try await run(settings)
        #expect(report.verification.difference == nil)
        #expect(report.writes.count > 0 && report.reads.count > 0)
        #expect(!report.samples.isEmpty && report.regionsAtEnd == 4)
        let picture = try files.text("plot.svg")
        #expect(try XMLCheck.elements(picture).first?.name == "svg")
        #expect(picture.contains("ycsb-f"))
        #expect(try files.text("history").contains("\"op\":\"cas\""))
        #expect(report.table.contains("operations/s"))
        for field in ["\"workload\":\"ycsb-f\"", "\"throughput_over_time\":[{\"time_s\":"] {
            #expect(report.json.text.contains(field), "\(field)")
        }
    }

    @Test("zipf, one hot stretch, keys at the end", arguments: [WorkloadKind.zipf, .hotRange])
    func puts(workload: WorkloadKind) async throws {
        let report = try await run(try settings(workload, .memory, nodes: 2))
        #expect(report.verification.difference == nil)
        #expect(report.writes.count >= 400)
    }

    @Test("a sequential load ends with its keys")
    func sequential() async throws {
        var settings = try settings(.sequential, .memory, nodes: 1)
        settings.durationSeconds = 600
        let report = try await run(settings)
        #expect(report.verification.difference == nil)
        #expect(report.verification.keysRead == 300)
        #expect(report.regionsInUse == 1)
    }

    @Test("splits under load: each is remembered, with its times")
    func splits() async throws {
        var settings = try settings(.uniform, .rocksdb, nodes: 3)
        settings.regions = 1
        settings.splits = 5
        let report = try await run(settings)
        #expect(report.verification.difference == nil)
        #expect(report.verification.regionsCompared == 6)
        #expect(report.splits.count == 5)
        #expect(report.splits.allSatisfy { $0.reason == .request && $0.children.count == 1 })
        // Of a region whose first leader was replaced early nobody tells.
        #expect((1...5).contains(report.splits.serveTimes.count))
        #expect(report.splits.pauseTimes.count == report.splits.serveTimes.count)
        #expect(report.table.contains("5 by request"))
        #expect(report.json.text.contains("\"reason\":\"request\""))
    }

    @Test("many regions from one: covered once, written, alike on all nodes")
    func regions() async throws {
        let files = try TemporaryDirectory()
        defer { DirectoryTree.remove(files.path + "/runs") }
        let settings = RegionsSettings(
            regions: 150, state: .memory, idleSeconds: 0.01, directory: files.path + "/runs")
        let report = try await RegionsRun(settings: settings) { _ in }.run()
        #expect(report.verification.difference == nil)
        #expect(report.verification.keysRead == 150)
        #expect(report.verification.regionsCompared == 150)
        #expect(report.led.reduce(0, +) == 150)
        // Of a region whose first leader was replaced early nobody tells.
        #expect(report.serve.count > 0 && report.serve.count <= report.commands)
        #expect(report.table.contains("150 regions from one"))
    }
}
