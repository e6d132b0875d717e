// Bytes with right checksums that say wrong things: whoever made them, they are refused, and no more
// memory is taken than the limits allow.

import Testing
import UkehiBase
import UkehiState

@Suite("Snapshots: hostile bytes")
struct SnapshotHostileTests {
    private let parts: RawSnapshot
    init() throws { parts = RawSnapshot(try Sample.snapshot(Sample.pairs(30), frameBytes: 512)) }

    private func failure(_ change: (inout RawSnapshot) -> Void) -> SnapshotError? {
        var changed = parts
        change(&changed)
        changed.repair()
        return Sample.failure(changed.bytes)
    }

    /// What becomes of a snapshot whose only frame has these records.
    private func failure(records: [UInt8], count: Int) -> SnapshotError? {
        failure {
            $0.frames = [$0.frames[0]]
            $0.setRecords(records, count: count)
        }
    }

    @Test(
        "a state that nothing can be added to, or of more sessions than any region has, is refused")
    func impossibleStates() {
        func refusal(_ change: (inout RegionState) -> Void) -> String? {
            var state = Sample.state
            change(&state)
            let record =
                [2, 0, 0, 0] + RawSnapshot.little(UInt32(state.encodedBytes))
                + state.encoded().array
            return failure(records: record, count: 1)?.message
        }
        #expect(refusal { _ in } == nil)
        #expect(refusal { $0.revision = 1 << 62 - 1 } == nil)
        for revision in [1 << 62, 1 << 63 - 1, UInt64.max] as [UInt64] {
            #expect(
                refusal { $0.revision = revision }?.contains("revision is out of bounds") == true)
        }
        for count in [1 << 16 + 1, UInt32.max] as [UInt32] {
            #expect(refusal { $0.sessions = count }?.contains("has \(count) sessions") == true)
        }
    }

    @Test("a frame by hand is read, so that the refusals below are for their reasons")
    func byHand() throws {
        #expect(failure(records: RawRecord.state, count: 1) == nil)
        let records =
            RawRecord.state + RawRecord.pair([UInt8(ascii: "b")])
            + RawRecord.pair([UInt8(ascii: "c")], expiresAt: 9)
        #expect(failure(records: records, count: 3) == nil)
        #expect(failure { _ in } == nil)
    }

    @Test("records that make no sense")
    func records() {
        let state = RawRecord.state
        let b = [UInt8(ascii: "b")]
        let c = [UInt8(ascii: "c")]
        var badState = state
        badState[8 + 8] ^= 1  // Another applied index than the header's.
        let cases: [(String, [UInt8], Int)] = [
            ("no state", RawRecord.pair(b), 1), ("a second state", state + state, 2),
            ("another state", badState, 1), ("a state behind a pair", RawRecord.pair(b) + state, 2),
            ("a count too high", state + RawRecord.pair(b), 3),
            ("a count too low", state + RawRecord.pair(b), 1),
            ("an unknown kind", state + [3] + RawRecord.pair(b)[1...], 2),
            ("an unknown flag", state + [1, 2] + RawRecord.pair(b)[2...], 2),
            ("an expiry of never", state + RawRecord.pair(b, expiresAt: 0), 2),
            ("order", state + RawRecord.pair(c) + RawRecord.pair(b), 3),
            ("a key twice", state + RawRecord.pair(b) + RawRecord.pair(b), 3),
            ("below the range", state + RawRecord.pair([UInt8(ascii: "A")]), 2),
            ("at the range's end", state + RawRecord.pair([UInt8(ascii: "n")]), 2),
            ("a version from the future", state + RawRecord.pair(b, version: 100_001), 2),
            ("a version with bit 63", state + RawRecord.pair(b, version: 1 << 63), 2),
            (
                "a key too long",
                state
                    + RawRecord.pair([UInt8](repeating: 98, count: CommandLimits.maxKeyBytes + 1)),
                2
            ),
            ("cut in a pair", state + RawRecord.pair(b).dropLast(), 2),
            ("cut in a pair's head", state + RawRecord.pair(b)[..<9], 2),
            ("bytes behind", state + [0], 1),
            (
                "a length past the end",
                state + [1, 0, 1, 0, 0xff, 0xff, 0xff, 0xff] + [UInt8](repeating: 0, count: 20), 2
            ),
            ("a state past the end", [2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff] + [0, 0], 1),
        ]
        for (name, records, count) in cases {
            #expect(failure(records: records, count: count)?.code == .damaged, "\(name)")
        }
    }

    @Test("lengths over the limits are refused by the frame's header alone")
    func lengths() {
        for (raw, stored) in [
            (0, 20), (SnapshotLimits.maxRawBytes + 1, 100), (Int(UInt32.max), 100), (1000, 0),
            (1000, SnapshotLimits.maxStoredBytes(of: 1000) + 1), (1000, Int(UInt32.max)),
        ] {
            let found = failure {
                RawSnapshot.put(UInt32(raw), in: &$0.frames[1].header, at: 16)
                RawSnapshot.put(UInt32(stored), in: &$0.frames[1].header, at: 20)
            }
            #expect(found?.message.contains("claims") == true, "\(raw), \(stored): \(found as Any)")
        }
        let records = failure { RawSnapshot.put(UInt32.max, in: &$0.frames[1].header, at: 24) }
        #expect(records?.message.contains("claims") == true)
        let flags = failure { RawSnapshot.put(UInt32(1), in: &$0.frames[1].header, at: 28) }
        #expect(flags?.code == .damaged)
    }

    @Test("bombs: more than is claimed, in every way to claim")
    func bombs() {
        let raw = RawRecord.state
        let blocks = 256  // 32 MiB of zeros, twice what a frame may hold.
        let largest = SnapshotLimits.maxRawBytes
        let cases: [(String, [UInt8], Int)] = [
            (
                "zstd claims more", Zstd.bomb(Zstd.header(claimed: blocks << 17), blocks: blocks),
                1000
            ),
            ("zstd claims less", Zstd.bomb(Zstd.header(claimed: 1000), blocks: blocks), 1000),
            (
                "all that is allowed", Zstd.bomb(Zstd.header(claimed: largest), blocks: blocks),
                largest
            ),
            ("no size", Zstd.bomb(Zstd.magic + [0x00, 0x50], blocks: blocks), 1000),
            (
                "a window of 3.75 TiB",
                Zstd.bomb(Zstd.magic + [0x80, 0xff] + RawSnapshot.little(UInt32(1000)), blocks: 1),
                1000
            ),
            (
                "a window of 32 MiB",
                Zstd.magic + [0x80, 15 << 3] + RawSnapshot.little(UInt32(raw.count))
                    + Zstd.uncompressed(raw)[9...], raw.count
            ),
            (
                "a dictionary",
                Zstd.magic + [0xa1, 7] + RawSnapshot.little(UInt32(raw.count))
                    + Zstd.uncompressed(raw)[9...], raw.count
            ),
            ("two frames", Zstd.uncompressed(raw) + Zstd.uncompressed([1]), raw.count),
            (
                "a frame to be skipped",
                [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4] + Zstd.uncompressed(raw), raw.count
            ),
            ("too little", Zstd.uncompressed(Array(raw.dropLast())), raw.count),
            ("not zstd", raw, raw.count), ("a few bytes", [0x28, 0xb5, 0x2f], 8),
        ]
        for (name, stored, rawBytes) in cases {
            let found = failure { $0.setStored(stored, rawBytes: rawBytes, records: 1) }
            #expect(found?.code == .damaged, "\(name): \(found as Any)")
        }
        // A window that is allowed, to show that it is the window above which is not.
        let plain =
            Zstd.magic + [0x80, 14 << 3] + RawSnapshot.little(UInt32(raw.count))
            + Zstd.uncompressed(raw)[9...]
        let found = failure {
            $0.frames = [$0.frames[0]]
            $0.setStored(plain, rawBytes: raw.count, records: 1)
        }
        #expect(found == nil)
    }

    @Test("a later version, and flags or states of one, are told from damage")
    func newer() {
        for (offset, value) in [(12, 2), (20, 2), (88, 3), (92, 4), (108, 1)] as [(Int, UInt32)] {
            let found = failure { RawSnapshot.put(value, in: &$0.header, at: offset) }
            #expect(found?.code == .newerFormat, "header byte \(offset): \(found as Any)")
        }
    }

    @Test("headers that contradict themselves")
    func headers() {
        for (offset, value) in [
            (16, 0), (16, 111), (16, UInt32.max), (96, 0), (96, UInt32.max), (100, UInt32.max),
            (104, 0), (104, 2), (112 + 16, 0), (112 + 16, 5), (112, 0), (112, 99),
        ] as [(Int, UInt32)] {
            let found = failure { RawSnapshot.put(value, in: &$0.header, at: offset) }
            #expect(found != nil, "header byte \(offset) = \(value)")
            #expect(found?.code != .newerFormat)
        }
        let beyond = [48, 56, 64, 72, 80, 112, 112 + 8].map { ($0, UInt64(1) << 62) }
        // And the second member on the first one's node.
        for (offset, value) in beyond + [
            (112 + 24 + 8, 1), (48, 0), (72, 0), (56, UInt64.max), (80, 0),
        ] {
            #expect(
                failure { RawSnapshot.put(value, in: &$0.header, at: offset) }?.code == .damaged)
        }
        // The range the wrong way round: `n` and `a`.
        #expect(failure { $0.header.swapAt($0.header.count - 2, $0.header.count - 1) } != nil)
    }
}
