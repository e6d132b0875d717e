// An embedder's own state machine through restarts: its snapshots take the place of the log.

import Foundation
import Synchronization
import Testing
import Ukehi
import UkehiBase
import UkehiPOSIX
import UkehiWAL
import _UkehiTestSupport

/// What an engine had its machines do; any thread.
private final class Calls: Sendable {
    private let applies = Atomic(0)
    private let restores = Atomic(0)
    func apply() { applies.add(1, ordering: .relaxed) }
    func restore() { restores.add(1, ordering: .relaxed) }
    var applied: Int { applies.load(ordering: .relaxed) }
    var restored: Int { restores.load(ordering: .relaxed) }
}

/// Each command's mark depends on all before it: none can be lost, repeated or swapped unseen.
private final class Chain: StateMachine, @unchecked Sendable {
    // Safety: the engine calls an instance from one thread at a time.
    private var links: UInt64 = 0
    private var mark = Chain.firstMark
    private let calls: Calls

    static let firstMark: UInt64 = 0xcbf2_9ce4_8422_2325

    /// The mark after a command.
    static func mark(after mark: UInt64, _ command: Bytes) -> UInt64 {
        command.array.reduce(mark) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    }
    static func answer(_ links: UInt64, _ mark: UInt64) -> Bytes { Bytes("\(links) \(mark)") }

    init(_ calls: Calls) { self.calls = calls }

    func apply(_ command: Bytes, _ context: CommandContext) -> Bytes {
        calls.apply()
        links += 1
        mark = Chain.mark(after: mark, command)
        return Chain.answer(links, mark)
    }

    func query(_ request: Bytes) -> Bytes { Chain.answer(links, mark) }

    func writeSnapshot(to writer: any SnapshotWriter) {
        var bytes = ByteWriter()
        bytes.append(links)
        bytes.append(mark)
        writer.write(bytes.take())
    }

    func restore(from reader: any SnapshotReader) throws {
        calls.restore()
        var bytes: [UInt8] = []
        while let piece = try reader.read() { bytes += piece.array }
        var rest = ByteReader(Bytes(bytes))
        links = try rest.read(UInt64.self)
        mark = try rest.read(UInt64.self)
        try rest.expectEnd()
    }

    func copyForSnapshot() -> any StateMachine {
        let copy = Chain(calls)
        copy.links = links
        copy.mark = mark
        return copy
    }
}

@Suite("A state machine of one's own, restarted", .prompt, .timeLimit(.minutes(3)))
struct MachineRestartTests {
    private static let commands = 200
    /// More entries than a log has that goes behind its snapshots, and less than commands a life.
    private static let few = 100
    /// The one user region.
    private static let region = RegionID(2)

    private func configuration(_ directory: String) -> Configuration {
        var configuration = Configuration(directory: directory)
        configuration.sharding.shardCount = 1
        configuration.wal.segmentMegabytes = 16
        configuration.raft.snapshotInterval = 10
        configuration.raft.electionTimeoutMilliseconds = 300
        configuration.raft.heartbeatIntervalMilliseconds = 50
        return configuration
    }

    /// Entries of the region in the log, as a tool beside the node sees them; nil: no such region.
    private func entries(_ directory: String) -> Int? {
        let report = WALInspector(fileSystem: POSIXFileSystem(), directory: directory).stat()
        return report.regions.first { $0.region == Self.region }.map { Int($0.entries) }
    }

    /// Indexes of the snapshots that are kept of the region.
    private func kept(_ directory: String) throws -> [UInt64] {
        let start = "kept-\(Self.region.rawValue)-"
        return try FileManager.default.contentsOfDirectory(atPath: directory + "/snapshots")
            .compactMap { $0.hasPrefix(start) ? UInt64($0.dropFirst(start.count)) : nil }
    }

    @Test("its state is there after restarts, from a snapshot and what little log came since")
    func restarts() async throws {
        try await withTemporaryDirectory { directory async throws in
            var links = 0
            var mark = Chain.firstMark
            for life in 0..<3 {
                let calls = Calls()
                let node = try await Node.start(
                    configuration: configuration(directory),
                    stateMachine: { _, _ in Chain(calls) })
                #expect(
                    try await node.query("", timeout: .seconds(60))
                        == Chain.answer(UInt64(links), mark))
                // The first life begins with nothing; those behind it do not begin all over again.
                #expect(calls.restored == (life == 0 ? 0 : 1))
                #expect(life == 0 || calls.applied < Self.few)
                for number in 0..<Self.commands {
                    let command = Bytes("command \(number) of life \(life)")
                    links += 1
                    mark = Chain.mark(after: mark, command)
                    let answer = try await node.propose(command, timeout: .seconds(60))
                    #expect(answer == Chain.answer(UInt64(links), mark))
                }
                // Looked at once a second: the log goes behind a snapshot that is kept.
                try await eventually("the log is compacted") {
                    entries(directory).map { $0 < Self.few } ?? false
                }
                await node.stop()

                // So it is on disk: what the log has not, a snapshot has.
                let held = try #require(entries(directory))
                #expect(held < Self.few)
                let newest = try #require(try kept(directory).max())
                #expect(newest > UInt64(links - Self.few), "\(newest) of \(links)")
            }
        }
    }
}
