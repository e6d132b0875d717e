import Testing
import UkehiBase
import UkehiNode
import UkehiState

@testable import UkehiTransport

/// Requests and replies survive the wire; what is not one is an error, never a trap.
@Suite("Requests and replies on the wire")
struct ClientCodecTests {
    private static let region = RegionInfo(
        region: RegionID(4), range: KeyRange(lower: "a", upper: "b"),
        epoch: RegionEpoch(confVersion: 2, version: 3), leader: NodeID(1),
        nodes: [NodeID(1), NodeID(2)])

    static let requests: [WireRequest] = [
        WireRequest(id: 1, operation: .write(record: "a record"), key: "k"),
        WireRequest(
            id: 2, deadlineMicroseconds: 5, operation: .get(.lease), key: "",
            expected: (RegionID(3), RegionEpoch(confVersion: 1, version: 9))),
        WireRequest(
            id: .max, operation: .scan(upper: "z", limit: 77, .stale), key: "a"),
        WireRequest(id: 4, operation: .query("what?", .linearizable), key: "k"),
        WireRequest(id: 5, operation: .topology, key: ""),
        WireRequest(id: 6, operation: .digest, key: "k"),
        WireRequest(id: 7, operation: .members(RegionID(3), .report), key: ""),
        WireRequest(
            id: 8, operation: .members(RegionID(3), .plan([NodeID(1), NodeID(2)])), key: ""),
        WireRequest(id: 9, operation: .members(.system, .set([NodeID(7)])), key: ""),
        WireRequest(id: 10, operation: .members(RegionID(3), .transfer(NodeID(7))), key: ""),
        WireRequest(id: 11, operation: .recovery(""), key: ""),
        WireRequest(id: 12, operation: .recovery("an order"), key: ""),
        WireRequest(id: 14, operation: .split(["k", "m"]), key: "k"),
        WireRequest(id: 13, operation: .transfers, key: ""),
        WireRequest(id: 15, operation: .loads(LoadQuestion(top: 10)), key: ""),
        WireRequest(
            id: 16, operation: .loads(LoadQuestion(region: RegionID(9), top: 1)), key: ""),
    ]

    static let replies: [Reply] =
        [
            .command(.applied(version: 5)), .command(.counter(value: -3, version: 6)),
            .command(.conditionFailed(current: 9)), .command(.conditionFailed(current: nil)),
            .command(.response("answer")), .command(.invalid(.keyTooLong)), .command(.staleEpoch),
            .value(nil), .value(VersionedValue(value: "", version: 1)),
            .value(VersionedValue(value: "value", version: 2)),
            .scan(ScanPage(pairs: [], next: nil)),
            .scan(
                ScanPage(
                    pairs: [
                        KeyValue(key: "a", value: "1", version: 4),
                        KeyValue(key: "b", value: "", version: 5),
                    ], next: "c")),
            .query("bytes"), .query(""), .recovery("a survey"),
            .topology(
                Topology(
                    cluster: ClusterID(high: 3, low: 4), node: NodeID(2),
                    nodes: [NodeAddress(node: NodeID(1), name: "n-ü", address: "h:1")],
                    regions: [region])),
            .members(
                MemberReport(
                    region: RegionID(3), epoch: RegionEpoch(confVersion: 4, version: 5),
                    leader: NodeID(1), lastIndex: LogIndex(9),
                    members: [
                        MemberInfo(
                            peer: PeerID(10), node: NodeID(1), roles: [.voter, .outgoingVoter],
                            match: LogIndex(9), isActive: true),
                        MemberInfo(
                            peer: PeerID(11), node: NodeID(2),
                            roles: [.outgoingVoter, .nextLearner],
                            match: LogIndex(2), isActive: false),
                    ], wanted: [NodeID(1), NodeID(3)], progress: .waiting, reason: "why",
                    steps: ["one", "two"])),
            .transfers([]),
            .transfers([
                SnapshotTransferInfo(
                    region: RegionID(3), direction: .sends, stage: .moving, peer: PeerID(7),
                    node: NodeID(2), doneBytes: 5, totalBytes: 9, milliseconds: 30,
                    bytesPerSecond: 1 << 40),
                SnapshotTransferInfo(
                    region: RegionID(4), direction: .gets, stage: .installing, peer: PeerID(8),
                    node: nil, doneBytes: 0, totalBytes: 0, milliseconds: 0, bytesPerSecond: 0),
            ]),
            .loads([]),
            .loads([
                RegionLoadInfo(
                    region: RegionID(9), range: KeyRange(lower: "a", upper: "m"),
                    readsPerSecond: 1.5, writesPerSecond: 20_000, bytesPerSecond: 1_099_511_627_776,
                    sizeBytes: 1 << 30,
                    hot: [
                        HotRange(first: "b", last: "b", readShare: 0.5, writeShare: 0.25),
                        HotRange(first: "c", last: "d", readShare: 0.25, writeShare: 0),
                    ],
                    refusals: [
                        SplitRefusalInfo(
                            cause: .load, reason: "One key takes 75 % of the load.", secondsAgo: 3),
                        SplitRefusalInfo(cause: .size, reason: "", secondsAgo: 1 << 40),
                    ]),
                RegionLoadInfo(
                    region: RegionID(10), range: KeyRange(lower: "m", upper: ""), readsPerSecond: 0,
                    writesPerSecond: 0, bytesPerSecond: 0, sizeBytes: nil, hot: [], refusals: []),
            ]),
            .digest(RegionDigest(region: RegionID(1), applied: LogIndex(2), high: 3, low: 4)),
            .regions([region, region]), .regions([]),
            .failed(.outcomeUnknown), .failed(.rejected(.notLeader(region))),
            .failed(.rejected(.staleEpoch(current: [region, region]))),
            .failed(.rejected(.overloaded)), .failed(.rejected(.unavailable("why"))),
            .failed(.rejected(.invalid("why not"))), .failed(.rejected(.timedOut)),
            .failed(.rejected(.diskFull)), .failed(.rejected(.sessionExpired)),
            .command(.sessionExpired(openAt: 1 << 41)),
        ] + SplitRefusal.all(existing: RegionID(77)).map { .failed(.rejected(.notSplit($0))) }

    private func encode(_ requests: [WireRequest]) -> Bytes {
        encodeExactly(4 + requests.map { RequestCodec.bytes(of: $0) }.reduce(0, +)) { writer in
            writer.put(UInt32(requests.count))
            for request in requests { RequestCodec.encode(request, into: &writer) }
        }
    }

    private func encode(_ replies: [Reply]) -> Bytes {
        var writer = ByteWriter()
        for (id, reply) in replies.enumerated() {
            ReplyCodec.encode(reply, id: UInt64(id), into: &writer)
        }
        return writer.take()
    }

    private func requests(_ payload: Bytes) throws(DecodeError) -> [WireRequest] {
        var all: [WireRequest] = []
        try RequestCodec.decode(payload) { request, _ in all.append(request) }
        return all
    }

    private func replies(_ payload: Bytes) throws(DecodeError) -> [Reply] {
        var all: [Reply] = []
        try ReplyCodec.decode(payload) { id, reply in
            #expect(id == UInt64(all.count))
            all.append(reply)
        }
        return all
    }

    @Test("come out as they went in")
    func roundTrip() throws {
        let gotRequests = try requests(encode(Self.requests))
        #expect(gotRequests.map { "\($0)" } == Self.requests.map { "\($0)" })
        #expect(encode(gotRequests) == encode(Self.requests))
        let gotReplies = try replies(encode(Self.replies))
        #expect(gotReplies.map { "\($0)" } == Self.replies.map { "\($0)" })
        #expect(encode(gotReplies) == encode(Self.replies))
    }

    @Test("cut anywhere, they are refused or fewer")
    func truncated() {
        let asked = encode(Self.requests)
        for length in 0..<asked.count {
            #expect(throws: DecodeError.self) { try requests(asked[0..<length]) }
        }
        let said = encode(Self.replies)
        for length in 0..<said.count {
            if let got = try? replies(said[0..<length]) { #expect(got.count < Self.replies.count) }
        }
    }

    @Test("damaged anywhere, they never trap")
    func damaged() {
        var random = SeededRandom(6)
        let asked = encode(Self.requests).array
        let said = encode(Self.replies).array
        for _ in 0..<20_000 {
            var bytes = asked
            bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(
                in: 0...255, using: &random)
            _ = try? requests(Bytes(bytes))
            bytes = said
            bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(
                in: 0...255, using: &random)
            try? ReplyCodec.decode(Bytes(bytes)) { _, _ in }
        }
    }

    @Test("counts are believed only as far as there are bytes")
    func lyingCounts() {
        var bytes = encode([Self.requests[0]]).array
        bytes.replaceSubrange(0..<4, with: [0xff, 0xff, 0xff, 0xff])
        #expect(throws: DecodeError.self) { try requests(Bytes(bytes)) }
    }
}
