import Testing
import UkehiBase
import UkehiState
import _UkehiTestSupport

@testable import UkehiCommand

@Suite("bench: snapshots", .prompt, .serialized)
struct SnapshotBenchTests {
    @Test("records ascend, are of the asked size, and are as many as are said")
    func records() {
        let records = RecordSource(bytes: 3 << 20, valueBytes: 1000)
        var last = Bytes()
        var count = 0
        records.forEachChunk { pairs in
            for pair in pairs {
                let key = Bytes(copying: pair.key)
                #expect(last < key)
                #expect(pair.key.count == 16 && pair.value.count == 1000)
                last = key
                count += 1
                #expect(pair.version == UInt64(count))
            }
        }
        #expect(count == records.count && count == (3 << 20) / 1016)
        #expect(records.state.revision == UInt64(count))
    }

    @Test("sizes are numbers with a unit or without")
    func sizes() {
        let sizes = ["7": 7, "3KiB": 3072, "64MiB": 64 << 20, "1GiB": 1 << 30]
        for (text, bytes) in sizes { #expect(ByteSize(argument: text)?.bytes == bytes) }
        for text in ["", "GiB", "-1", "1GB", "1.5GiB", "9223372036854775807GiB"] {
            #expect(ByteSize(argument: text) == nil, "\(text)")
        }
    }

    @Test("what cannot be is said, all of it, with the option to change")
    func problems() {
        #expect(SnapshotBenchSettings().problems == [])
        let problems = SnapshotBenchSettings(bytes: 5, valueBytes: [1], state: .none, rounds: 0)
            .problems
        #expect(problems.count == 4 && problems.allSatisfy { $0.hasPrefix("--") })
    }

    @Test("the middle of rounds, the least and the most")
    func spread() {
        let spread = Spread([0.9, 0.5, 0.7])
        #expect(spread.json.text == "{\"median\":0.7,\"min\":0.5,\"max\":0.9}")
        #expect(Spread([1, 2]).median == 1 && Spread([]).median == 0)
        var round = SnapshotBenchRound()
        round.scan.wall = 300
        round.compressing.wall = 600
        round.making.wall = 1000
        round.building.wall = 500
        round.decompressing.wall = 100
        round.installing.wall = 1000
        #expect(round.makingRatio(\.wall) == 0.6 && round.installingRatio(\.wall) == 0.5)
    }

    /// Those of this build.
    private static var states: [BenchState] {
        #if RocksDB
            [.memory, .rocksdb]
        #else
            [.memory]
        #endif
    }

    @Test("a whole run: digests are equal, and nothing is left", arguments: states)
    func wholeRun(state: BenchState) throws {
        let directory = try TemporaryDirectory()
        let report = try SnapshotBenchRun(
            settings: SnapshotBenchSettings(
                bytes: 1 << 20, valueBytes: [128, 4096], state: state, rounds: 2,
                directory: directory.path),
            say: { _ in }
        ).run()
        #expect(report.isVerified && report.rows.count == 2)
        #expect(report.rows.allSatisfy { $0.rounds.count == 2 && $0.rawBytes > 1 << 19 })
        #expect(report.json.text.contains("\"digests_equal\":true"))
        #expect(directory.names.isEmpty)
    }
}
