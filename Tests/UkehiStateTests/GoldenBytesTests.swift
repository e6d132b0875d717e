// The bytes of format version 1. If one of these changes, the format has changed.

import Testing
import UkehiBase
import UkehiState

@Suite("golden bytes of format version 1")
struct GoldenBytesTests {
    static let records: [(Command, String)] = [
        (.put(key: "k", value: "val"), "08000000 01 00 0100 6b 76616c"),
        (
            .put(key: "k", value: "v", expiresAt: 0x0102),
            "0e000000 01 04 0100 0201000000000000 6b 76"
        ),
        (.delete(key: "k"), "05000000 02 00 0100 6b"),
        (.deleteRange(lower: "a", upper: "b"), "06000000 03 00 0100 61 62"),
        (
            .compareAndSet(key: "k", expected: .absent, value: "v"),
            "0e000000 04 00 0100 6b 00 01 0000 00000000 76"
        ),
        (
            .compareAndSet(key: "k", expected: .version(9), value: nil),
            "15000000 04 00 0100 6b 01 00 0000 08000000 0900000000000000"
        ),
        (
            .compareAndSet(key: "k", expected: .value("xy"), value: ""),
            "0f000000 04 00 0100 6b 02 01 0000 02000000 7879"
        ),
        (.increment(key: "k", by: -2), "0d000000 05 00 0100 6b feffffffffffffff"),
        (
            .batch([.check(key: "k", expected: .absent), .delete(key: "k")]),
            "1f000000 06 00 0100 6b 0d000000 07 00 0100 6b 00 00 0000 00000000 "
                + "05000000 02 00 0100 6b"
        ),
        (.user(key: "k", body: "b"), "06000000 08 00 0100 6b 62"),
    ]

    static func bytes(_ hex: String) -> Bytes {
        let digits = Array(hex.filter { $0 != " " })
        return Bytes(
            stride(from: 0, to: digits.count, by: 2).map {
                UInt8(String(digits[$0...$0 + 1]), radix: 16) ?? 0
            })
    }

    @Test("records", arguments: records.indices)
    func record(_ position: Int) throws {
        let (command, hex) = Self.records[position]
        #expect(try command.encoded() == Self.bytes(hex))
        #expect(try CommandRecord.decode(Self.bytes(hex)) == command)
    }

    @Test("a record with session and header")
    func recordWithOptions() throws {
        let record = try Command.delete(key: "k").encoded(
            options: CommandRecord.Options(session: (1, 2), header: "hh"))
        let hex = "19000000 02 03 0100 0100000000000000 0200000000000000 0200 6868 6b"
        #expect(record == Self.bytes(hex))
    }

    @Test("payloads")
    func payloads() throws {
        let epoch = RegionEpoch(confVersion: 2, version: 3)
        let header = "0400000000000000 0200000000000000 0300000000000000"
        let commands = try entry([.delete(key: "k")], index: 1, time: 4, epoch: epoch).data
        #expect(
            commands == Self.bytes("01 01 0000 01000000 \(header) 05000000 02 00 0100 6b"))
        #expect(
            EntryPayload.encode(admin: .compactLog(upTo: LogIndex(5)), epoch: epoch, time: 4)
                == Self.bytes("01 02 0000 01000000 \(header) 0100000000000000 0500000000000000"))
        #expect(
            EntryPayload.encode(time: 4, epoch: epoch)
                == Self.bytes("01 03 0000 00000000 \(header)"))
    }

    @Test("region state")
    func regionState() throws {
        let state = RegionState(
            applied: LogIndex(1), appliedTerm: Term(2), revision: 3, loggedTime: 4,
            epoch: RegionEpoch(confVersion: 5, version: 6))
        let hex = (1...6).reduce("0100000000000000") { $0 + "0\($1)00000000000000" }
        #expect(state.encoded() == Self.bytes(hex))
        #expect(try RegionState.decode(Self.bytes(hex), region: RegionID(2)) == state)
        for length in 0..<56 {
            #expect(throws: StateError.self) {
                try RegionState.decode(Self.bytes(hex)[0..<length], region: RegionID(2))
            }
        }
        var changed = state
        changed.hasDescriptor = true
        var later = Self.bytes(hex).array
        later[1] = 1
        #expect(changed.encoded() == Bytes(later))
        #expect(try RegionState.decode(Bytes(later), region: RegionID(2)) == changed)
        for flags in [2, 4] as [UInt8] {
            later[1] = flags
            #expect(throws: StateError.self) {
                try RegionState.decode(Bytes(later), region: RegionID(2))
            }
        }
    }

    @Test("region state with sessions, and where they are kept")
    func sessions() throws {
        var state = RegionState(
            applied: LogIndex(1), appliedTerm: Term(2), revision: 3, loggedTime: 4,
            epoch: RegionEpoch(confVersion: 5, version: 6))
        state.horizon = 7
        state.sessions = 8
        let hex = (1...8).reduce("0102000000000000") { $0 + "0\($1)00000000000000" }
        #expect(state.encoded() == Self.bytes(hex))
        #expect(try RegionState.decode(Self.bytes(hex), region: RegionID(2)) == state)
        for length in 0..<72 {
            #expect(throws: StateError.self) {
                try RegionState.decode(Self.bytes(hex)[0..<length], region: RegionID(2))
            }
        }
        var damaged = Self.bytes(hex).array
        damaged[68] = 1
        #expect(throws: StateError.self) {
            try RegionState.decode(Bytes(damaged), region: RegionID(2))
        }
        // No session can be opened past that: behind it there would be no time to open one at.
        for (horizon, isSound) in [
            (UInt64.max >> 22, true), (UInt64.max >> 22 + 1, false), (.max, false),
        ] {
            var bytes = Self.bytes(hex).array
            withUnsafeBytes(of: horizon.littleEndian) { bytes.replaceSubrange(56..<64, with: $0) }
            let found = try? RegionState.decode(Bytes(bytes), region: RegionID(2))
            #expect(found?.horizon == (isSound ? horizon : nil))
        }
        let key = SessionKey.with(RegionID(2), 0x0102) { Bytes(copying: $0) }
        #expect(key == Self.bytes("0000000000000002 0000000000000102"))
        #expect(StoreSpace.sessions.rawValue == 4)
        let range = SessionKey.range(of: RegionID(2))
        #expect(range.lower == key[0..<8] && range.upper == Self.bytes("0000000000000003"))
    }
}
