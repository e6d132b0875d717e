import Testing
import _UkehiTestSupport

@testable import UkehiCommand

/// Short whole runs, on real nodes: they end verified, and leave nothing behind.
@Suite("bench: whole runs", .prompt, .serialized)
struct WholeRunTests {
    private func settings(_ mix: String, state: BenchState, nodes: Int) throws -> BenchSettings {
        var settings = BenchSettings(mix: try #require(OperationMix(parsing: mix)))
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

    @Test("three nodes without state are verified by log digests")
    func logOnly() async throws {
        let report = try await run(settings("put=1", state: .none, nodes: 3))
        #expect(report.verification.difference == nil)
        #expect(report.verification.summary.contains("log digests"))
        #expect(report.writes.count >= 400)
        #expect(report.logs.count == 3 && report.logs.allSatisfy { $0.fsyncs > 0 })
    }

    @Test("all kinds of operations on one node in memory, with every log")
    func everything() async throws {
        let files = try TemporaryDirectory()
        var settings = try settings("get=5,put=4,cas=2,delete=1", state: .memory, nodes: 1)
        settings.ackLog = files.path + "/acks"
        settings.history = files.path + "/history"
        let report = try await run(settings)
        #expect(report.verification.difference == nil)
        // Of 400 operations some are of each kind.
        #expect(report.writes.count > 0 && report.reads.count > 0)
        #expect(try !files.text("acks").isEmpty)
        #expect(try files.text("history").contains("\"op\":\"cas\""))
    }

    @Test("tasks drive the async API")
    func tasks() async throws {
        var settings = try settings("get=1,put=1", state: .memory, nodes: 1)
        settings.clientMode = .async
        let report = try await run(settings)
        #expect(report.verification.difference == nil)
        #expect(report.writes.count > 0 && report.reads.count > 0)
    }
}
