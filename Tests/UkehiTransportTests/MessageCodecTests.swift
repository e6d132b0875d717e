import Testing
import UkehiBase
import UkehiNode
import UkehiRaft

@testable import UkehiTransport

/// Raft messages survive the wire; what is not one is an error with a place, never a trap.
@Suite("Raft messages on the wire")
struct MessageCodecTests {
    private static let kinds = (0..<64).compactMap { MessageKind(rawValue: UInt8($0)) }

    private func position(_ random: inout SeededRandom) -> UInt64 {
        Bool.random(using: &random) ? 0 : UInt64.random(in: 0..<1 << 61, using: &random)
    }

    private func message(_ random: inout SeededRandom) -> RegionMessage {
        let travelling = Self.kinds.filter { MessageCodec.travels($0) }
        var message = Message(kind: travelling.randomElement(using: &random) ?? .heartbeat)
        message.to = PeerID(position(&random))
        message.from = PeerID(position(&random))
        message.term = Term(position(&random))
        message.logTerm = Term(position(&random))
        message.index = LogIndex(position(&random))
        message.commit = LogIndex(position(&random))
        message.reject = Bool.random(using: &random)
        message.rejectHint = LogIndex(position(&random))
        if Bool.random(using: &random) { message.context = random.bytes(16) }
        if message.kind == .appendEntries || message.kind == .requestEntriesResponse {
            for offset in 0..<Int.random(in: 0...4, using: &random) {
                message.entries.append(
                    Entry(
                        term: Term(position(&random)), index: message.index + UInt64(offset + 1),
                        kind: EntryKind(rawValue: UInt8(offset % 3)) ?? .normal,
                        data: random.bytes(Int.random(in: 0...40, using: &random))))
            }
        }
        if message.kind == .installSnapshot {
            message.snapshot = Snapshot(
                index: LogIndex(position(&random)), term: Term(position(&random)),
                configuration: ConfigurationState(
                    voters: [PeerID(1), PeerID(2)], learners: [PeerID(3)],
                    votersOutgoing: [PeerID(1)], learnersNext: [],
                    autoLeave: Bool.random(using: &random)),
                data: random.bytes(30))
        }
        return RegionMessage(
            region: RegionID(position(&random)),
            epoch: RegionEpoch(confVersion: position(&random), version: position(&random)),
            message: message)
    }

    private func decode(_ payload: Bytes) throws(DecodeError) -> [RegionMessage] {
        var messages: [RegionMessage] = []
        try MessageCodec.decode(payload, into: &messages)
        return messages
    }

    @Test("come out as they went in")
    func roundTrip() throws {
        var random = SeededRandom(3)
        for _ in 0..<500 {
            let sent = (0..<Int.random(in: 0...6, using: &random)).map { _ in message(&random) }
            let got = try decode(encodeMessages(sent))
            #expect(got.count == sent.count)
            #expect(zip(got, sent).allSatisfy { $0.isEqual(to: $1) })
        }
    }

    @Test("cut anywhere, they are refused")
    func truncated() {
        var random = SeededRandom(4)
        for _ in 0..<50 {
            let payload = encodeMessages([message(&random), message(&random)])
            for length in 0..<payload.count {
                #expect(throws: DecodeError.self) { try decode(payload[0..<length]) }
            }
        }
    }

    @Test("damaged anywhere, they never trap and never grow")
    func damaged() {
        var random = SeededRandom(5)
        for _ in 0..<20_000 {
            var bytes = encodeMessages([message(&random), message(&random)]).array
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                bytes[at] = UInt8.random(in: 0...255, using: &random)
            }
            if let got = try? decode(Bytes(bytes)) { #expect(got.count == 2) }
        }
    }

    @Test("counts are believed only as far as there are bytes")
    func lyingCounts() {
        var bytes = encodeMessages([append([5])]).array
        bytes.replaceSubrange(0..<4, with: [0xff, 0xff, 0xff, 0x7f])
        #expect(throws: DecodeError.self) { try decode(Bytes(bytes)) }
        bytes = encodeMessages([append([5])]).array
        // The entry count follows the fixed fields, logTerm, index and commit.
        let at = 4 + MessageCodec.fixedBytes + 24
        #expect(bytes[at] == 1)
        bytes.replaceSubrange(at..<at + 4, with: [0xff, 0xff, 0xff, 0xff])
        #expect(throws: DecodeError.self) { try decode(Bytes(bytes)) }
    }

    @Test(
        "what a core says to itself is refused",
        arguments: kinds.filter { !MessageCodec.travels($0) })
    func localKinds(kind: MessageKind) {
        var bytes = encodeMessages([heartbeat()]).array
        bytes[4] = kind.rawValue
        #expect(throws: DecodeError.self) { try decode(Bytes(bytes)) }
    }

    @Test("positions that arithmetic could overflow on are refused")
    func extremePositions() {
        for field in 0..<6 {
            for value: UInt64 in [.max, .max - 1, 1 << 62] {
                var bytes = encodeMessages([heartbeat()]).array
                let at = 8 + field * 8
                bytes.replaceSubrange(at..<at + 8, with: u64(value))
                #expect(throws: DecodeError.self) { try decode(Bytes(bytes)) }
            }
        }
    }

    private static let withEntries: Set<MessageKind> = [.appendEntries, .requestEntriesResponse]

    @Test(
        "entries are refused in anything but appends and answers to a damaged peer",
        arguments: kinds.filter { MessageCodec.travels($0) })
    func entriesElsewhere(kind: MessageKind) throws {
        var bytes = encodeMessages([append([5])]).array
        bytes[4] = kind.rawValue
        if Self.withEntries.contains(kind) {
            let got = try decode(Bytes(bytes))
            #expect(got.map(\.message.kind) == [kind])
            #expect(got.map(\.message.entries.count) == [1])
        } else {
            #expect(throws: DecodeError.self) { try decode(Bytes(bytes)) }
        }
    }

    @Test("a damaged peer's request and its answers come out as they went in")
    func damagedEntries() throws {
        let request = Message(
            kind: .requestEntries, to: PeerID(2), from: PeerID(1), term: Term(7), logTerm: Term(5),
            index: LogIndex(10), commit: LogIndex(14))
        var answer = Message(
            kind: .requestEntriesResponse, to: PeerID(1), from: PeerID(2), term: Term(7),
            index: LogIndex(9))
        var denial = answer
        denial.reject = true
        answer.entries = (10...14).map { index in
            Entry(
                term: Term(5), index: LogIndex(index), kind: index == 12 ? .confChangeV2 : .normal,
                data: Bytes([UInt8](repeating: 1, count: Int(index) * 7)))
        }
        let sent = [request, answer, denial].map {
            RegionMessage(
                region: RegionID(3), epoch: RegionEpoch(confVersion: 1, version: 2), message: $0)
        }
        let got = try decode(encodeMessages(sent))
        #expect(got.map(\.message) == [request, answer, denial])
        #expect(zip(got, sent).allSatisfy { $0.isEqual(to: $1) })
    }

    @Test("the bytes of version 1 stay what they are")
    func golden() {
        let bytes = encodeMessages([append([2], region: 9, index: 4)]).array
        let expected: [UInt8] =
            [1, 0, 0, 0]  // one message
            + [3, 0, 0x27, 0]  // appendEntries; logTerm, index, commit, entries
            + u64(9) + u64(1) + u64(1)  // region, epoch
            + u64(1) + u64(2) + u64(3)  // from, to, term
            + u64(2) + u64(4) + u64(9)  // logTerm, index, commit
            + [1, 0, 0, 0]  // one entry
            + [2, 0, 0, 0] + [0, 0, 0, 0] + u64(3) + [2, 2]
        #expect(bytes == expected)
    }

    private func u64(_ value: UInt64) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian) { [UInt8]($0) }
    }
}
