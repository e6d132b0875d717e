// What goes into a snapshot comes out of it, wherever reading begins.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiState

@Suite("Snapshots: round trips")
struct SnapshotRoundTripTests {
    @Test("an empty region, one key, ten thousand keys", arguments: [0, 1, 10_000])
    func pairs(_ count: Int) throws {
        let pairs = Sample.pairs(count)
        let contents = try Sample.read(Sample.snapshot(pairs, frameBytes: 64 << 10))
        #expect(contents.header == Sample.header())
        #expect(contents.state == Sample.state)
        #expect(contents.pairs == pairs)
        #expect(contents.frames.allSatisfy { $0.rawBytes <= 64 << 10 })
        #expect(contents.frames.map(\.number) == (0..<UInt64(contents.frames.count)).map { $0 })
        #expect(count < 10_000 ? contents.frames.count == 1 : contents.frames.count > 8)
    }

    @Test("the longest key with the largest value, in a frame of its own between others")
    func largest() throws {
        var random = TestRandom(seed: 4)
        var noise = random.bytes(1 << 20)
        for _ in 0..<3 { noise += noise }
        let pairs = [
            Pair(key: "a", value: "", version: 1),
            Pair(
                key: Bytes([UInt8](repeating: UInt8(ascii: "b"), count: CommandLimits.maxKeyBytes)),
                value: Bytes(noise), version: 2, expiresAt: .max),
            Pair(key: "c", value: "small", version: 100_000),
        ]
        #expect(pairs[1].value.count == CommandLimits.maxValueBytes)
        let header = Sample.header(
            range: KeyRange(
                lower: "",
                upper: Bytes([UInt8](repeating: 0xff, count: CommandLimits.maxKeyBytes))))
        let contents = try Sample.read(Sample.snapshot(pairs, header))
        #expect(contents.pairs == pairs)
        #expect(contents.frames.map(\.records) == [2, 1, 1])
    }

    @Test("empty keys and all keys there are, the system region, a region that applied nothing")
    func edges() throws {
        let pairs = [
            Pair(key: "", value: "first", version: 1), Pair(key: Bytes([0]), value: "", version: 1),
            Pair(key: Bytes([0xff, 0xff]), value: "last", version: 1),
        ]
        var header = Sample.header(range: .all)
        header.isSystem = true
        #expect(try Sample.read(Sample.snapshot(pairs, header)).pairs == pairs)
        #expect(try Sample.read(Sample.snapshot(pairs, header)).header.isSystem)

        let fresh = RegionState(epoch: RegionEpoch(confVersion: 1, version: 1))
        let contents = try Sample.read(
            Sample.snapshot([], Sample.header(state: fresh), state: fresh))
        #expect(contents.state == fresh)
        #expect(contents.header.index == .zero)
    }

    @Test("the same state makes the same bytes; another id makes no byte of a frame pass")
    func determinism() throws {
        let pairs = Sample.pairs(500)
        let one = try Sample.snapshot(pairs, frameBytes: 4096)
        #expect(try one == Sample.snapshot(pairs, frameBytes: 4096))
        let other = try Sample.snapshot(pairs, Sample.header(snapshot: 2), frameBytes: 4096)
        let (a, b) = (RawSnapshot(one), RawSnapshot(other))
        #expect(a.frames.map(\.stored) == b.frames.map(\.stored))
        for (x, y) in zip(a.frames, b.frames) { #expect(x.header != y.header) }
    }

    @Test("reading goes on at any frame, and the footer still counts those before")
    func resume() throws {
        let pairs = Sample.pairs(300)
        let bytes = try Sample.snapshot(pairs, frameBytes: 2048)
        let whole = try Sample.read(bytes)
        #expect(whole.frames.count > 5)
        var skipped = 0
        for frame in whole.frames {
            let rest = try Sample.read(bytes, from: frame.number)
            #expect(rest.pairs == Array(pairs[skipped...]))
            #expect(rest.frames == Array(whole.frames[Int(frame.number)...]))
            #expect(rest.state == (frame.number == 0 ? Sample.state : nil))
            skipped += frame.records - (frame.number == 0 ? 1 : 0)
        }
        let count = UInt64(whole.frames.count)
        #expect(try Sample.read(bytes, from: count).pairs.isEmpty)
        #expect(throws: SnapshotError.self) { try Sample.read(bytes, from: count + 1) }

        let file = MemoryFile(bytes)
        let reader = try SnapshotFileReader(file)
        let before = file.bytesRead
        try reader.skip(to: count)
        #expect(file.bytesRead - before == Int(count) * 44, "frames are skipped by their headers")
    }

    @Test("the second writer of these tests agrees with the first")
    func repair() throws {
        let bytes = try Sample.snapshot(Sample.pairs(200), frameBytes: 2048)
        var parts = RawSnapshot(bytes)
        #expect(parts.bytes == bytes)
        parts.repair()
        #expect(parts.bytes == bytes)
    }

    @Test("what cannot be in a snapshot is refused by the writer")
    func refusals() throws {
        func refused(_ pairs: [Pair], _ header: SnapshotHeader = Sample.header()) {
            #expect(throws: SnapshotError.self) { try Sample.snapshot(pairs, header) }
        }
        let long = Bytes([UInt8](repeating: 98, count: CommandLimits.maxKeyBytes + 1))
        refused([Pair(key: "b", value: "", version: 1), Pair(key: "b", value: "", version: 2)])
        refused([Pair(key: "c", value: "", version: 1), Pair(key: "b", value: "", version: 2)])
        refused([Pair(key: "A", value: "", version: 1)])
        refused([Pair(key: "n", value: "", version: 1)])
        refused([Pair(key: long, value: "", version: 1)])
        refused([Pair(key: "b", value: "", version: Sample.state.revision + 1)])
        for change: (inout SnapshotHeader) -> Void in [
            { $0.region = RegionID(0) }, { $0.members = [] }, { $0.members.reverse() },
            { $0.members[0].roles = [.voter, .learner] }, { $0.members[1].peer = PeerID(11) },
            { $0.members.removeSubrange(1...2) }, { $0.index = LogIndex(78) },
            { $0.term = Term(6) }, { $0.epoch.version += 1 },
            { $0.range = KeyRange(lower: long, upper: "") },
        ] {
            var header = Sample.header()
            change(&header)
            refused([], header)
        }
    }
}
