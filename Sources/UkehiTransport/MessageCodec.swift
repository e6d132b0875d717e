// Raft messages on the wire. Hot path: no allocation per entry, one copy of each payload.
//
//   messages | count u32 | message × count |
//   message  | kind u8 | 0 u8 | flags u16 | region u64 | confVersion u64 | version u64
//            | from u64 | to u64 | term u64 | the fields its flags name, in the order of the flags |
//   flags    | 1 logTerm u64 | 2 index u64 | 4 commit u64 | 8 reject (no bytes) | 16 rejectHint u64
//            | 32 entries: count u32, entry records (UkehiBase, Entry), the first at index + 1
//            | 64 snapshot: index u64, term u64, autoLeave u8, four lists of peers (count u32,
//            |    u64 × count: voters, learners, votersOutgoing, learnersNext), data (u32 + bytes)
//            | 128 context: u32 + bytes |
//
// An absent field is zero or empty. Terms, indexes and ids are below 2^62, so that no arithmetic on
// what a peer sent can overflow. Kinds that a core only says to itself or to its own storage are
// never on the wire, with their fields `vote` and `responses`.

package import UkehiBase
package import UkehiNode
package import UkehiRaft

package enum MessageCodec {
    /// What bounds terms, indexes and ids that come from outside.
    static let maxPosition: UInt64 = 1 << 62
    static let fixedBytes = 4 + 6 * 8

    private enum Flag {
        static let logTerm: UInt16 = 1
        static let index: UInt16 = 2
        static let commit: UInt16 = 4
        static let reject: UInt16 = 8
        static let rejectHint: UInt16 = 16
        static let entries: UInt16 = 32
        static let snapshot: UInt16 = 64
        static let context: UInt16 = 128
        static let all: UInt16 = 255
    }

    /// Whether peers say it to each other.
    package static func travels(_ kind: MessageKind) -> Bool {
        switch kind {
        case .appendEntries, .appendEntriesResponse, .requestVote, .requestVoteResponse,
            .installSnapshot, .heartbeat, .heartbeatResponse, .transferLeader, .timeoutNow,
            .readIndex, .readIndexResponse, .requestPreVote, .requestPreVoteResponse,
            .requestEntries, .requestEntriesResponse, .snapshotRequest, .snapshotChunk,
            .introducePeer, .peerIsGone, .askMembership, .requestIDs, .requestIDsResponse,
            .registerNode, .requestRegistry, .registry, .nodeLoad, .reportRegions,
            .reportRegionsResponse, .requestRegions, .regions:
            true
        case .hup, .beat, .propose, .unreachable, .snapshotStatus, .checkQuorum, .storageAppend,
            .storageAppendResponse, .storageApply, .storageApplyResponse, .forgetLeader:
            false
        }
    }

    /// Bytes of the message's entry records.
    static func entryBytes(of message: Message) -> Int {
        var total = 0
        for entry in message.entries { total += entry.recordBytes }
        return total
    }

    /// Encoded bytes; `entryBytes` as above, computed once by the caller.
    static func bytes(of message: Message, entryBytes: Int) -> Int {
        var total = fixedBytes
        if message.logTerm != .zero { total += 8 }
        if message.index != .zero { total += 8 }
        if message.commit != .zero { total += 8 }
        if message.rejectHint != .zero { total += 8 }
        if !message.entries.isEmpty { total += 4 + entryBytes }
        if let snapshot = message.snapshot { total += bytes(of: snapshot) }
        if !message.context.isEmpty { total += 4 + message.context.count }
        return total
    }

    private static func bytes(of snapshot: Snapshot) -> Int {
        let lists = snapshot.configuration
        let peers =
            lists.voters.count + lists.learners.count + lists.votersOutgoing.count
            + lists.learnersNext.count
        return 17 + 16 + 8 * peers + 4 + snapshot.data.count
    }

    static func encode(_ item: RegionMessage, into writer: inout RawWriter) {
        encode(item.message, region: item.region, epoch: item.epoch, into: &writer)
    }

    private static func encode(
        _ message: Message, region: RegionID, epoch: RegionEpoch, into writer: inout RawWriter
    ) {
        invariant(travels(message.kind), "\(message.kind) is never sent to another node")
        var flags: UInt16 = 0
        if message.logTerm != .zero { flags |= Flag.logTerm }
        if message.index != .zero { flags |= Flag.index }
        if message.commit != .zero { flags |= Flag.commit }
        if message.reject { flags |= Flag.reject }
        if message.rejectHint != .zero { flags |= Flag.rejectHint }
        if !message.entries.isEmpty { flags |= Flag.entries }
        if message.snapshot != nil { flags |= Flag.snapshot }
        if !message.context.isEmpty { flags |= Flag.context }
        writer.put(UInt32(message.kind.rawValue) | UInt32(flags) << 16)
        writer.put(region.rawValue)
        writer.put(epoch.confVersion)
        writer.put(epoch.version)
        writer.put(message.from.rawValue)
        writer.put(message.to.rawValue)
        writer.put(message.term.rawValue)
        if message.logTerm != .zero { writer.put(message.logTerm.rawValue) }
        if message.index != .zero { writer.put(message.index.rawValue) }
        if message.commit != .zero { writer.put(message.commit.rawValue) }
        if message.rejectHint != .zero { writer.put(message.rejectHint.rawValue) }
        if !message.entries.isEmpty {
            writer.put(UInt32(message.entries.count))
            for entry in message.entries { writer.put(entry) }
        }
        if let snapshot = message.snapshot { encode(snapshot, into: &writer) }
        if !message.context.isEmpty { writer.putLengthPrefixed(message.context) }
    }

    private static func encode(_ snapshot: Snapshot, into writer: inout RawWriter) {
        writer.put(snapshot.index.rawValue)
        writer.put(snapshot.term.rawValue)
        writer.put(UInt8(snapshot.configuration.autoLeave ? 1 : 0))
        put(snapshot.configuration.voters, into: &writer)
        put(snapshot.configuration.learners, into: &writer)
        put(snapshot.configuration.votersOutgoing, into: &writer)
        put(snapshot.configuration.learnersNext, into: &writer)
        writer.putLengthPrefixed(snapshot.data)
    }

    private static func put(_ peers: [PeerID], into writer: inout RawWriter) {
        writer.put(UInt32(peers.count))
        for peer in peers { writer.put(peer.rawValue) }
    }
}

extension MessageCodec {
    /// Appends the messages of one frame to `messages`; their payloads are slices of `payload`.
    package static func decode(
        _ payload: Bytes, into messages: inout [RegionMessage]
    ) throws(DecodeError) {
        var reader = ByteReader(payload)
        let count = Int(try reader.read(UInt32.self))
        guard count <= reader.remaining / fixedBytes else {
            throw reader.failure("\(count) messages claimed in \(reader.remaining) bytes")
        }
        for _ in 0..<count { messages.append(try decodeOne(&reader)) }
        try reader.expectEnd()
    }

    private static func decodeOne(_ reader: inout ByteReader) throws(DecodeError) -> RegionMessage {
        let lead = try reader.read(UInt32.self)
        guard let kind = MessageKind(rawValue: UInt8(truncatingIfNeeded: lead)), travels(kind)
        else {
            throw reader.failure("message kind \(lead & 0xff) does not travel")
        }
        let flags = UInt16(truncatingIfNeeded: lead >> 16)
        guard lead & 0xff00 == 0, flags & ~Flag.all == 0 else {
            throw reader.failure("unknown message flags")
        }
        let region = RegionID(try position(&reader))
        let confVersion = try position(&reader)
        let epoch = RegionEpoch(confVersion: confVersion, version: try position(&reader))
        var message = Message(kind: kind)
        message.from = PeerID(try position(&reader))
        message.to = PeerID(try position(&reader))
        message.term = Term(try position(&reader))
        if flags & Flag.logTerm != 0 { message.logTerm = Term(try position(&reader)) }
        if flags & Flag.index != 0 { message.index = LogIndex(try position(&reader)) }
        if flags & Flag.commit != 0 { message.commit = LogIndex(try position(&reader)) }
        message.reject = flags & Flag.reject != 0
        if flags & Flag.rejectHint != 0 { message.rejectHint = LogIndex(try position(&reader)) }
        if flags & Flag.entries != 0 {
            guard kind == .appendEntries || kind == .requestEntriesResponse else {
                throw reader.failure("entries in a \(kind)")
            }
            message.entries = try entries(&reader, after: message.index)
        }
        if flags & Flag.snapshot != 0 {
            guard kind == .installSnapshot else { throw reader.failure("a snapshot in a \(kind)") }
            message.snapshot = try snapshot(&reader)
        }
        if flags & Flag.context != 0 { message.context = try reader.readLengthPrefixed() }
        return RegionMessage(region: region, epoch: epoch, message: message)
    }

    private static func entries(
        _ reader: inout ByteReader, after previous: LogIndex
    ) throws(DecodeError) -> [Entry] {
        let count = Int(try reader.read(UInt32.self))
        guard count <= reader.remaining / Entry.recordHeaderBytes else {
            throw reader.failure("\(count) entries claimed in \(reader.remaining) bytes")
        }
        var entries: [Entry] = []
        entries.reserveCapacity(count)
        var index = previous
        for _ in 0..<count {
            index = index + 1
            let entry = try Entry.decodeRecord(from: &reader, index: index)
            guard entry.term.rawValue < maxPosition else {
                throw reader.failure("a term past every bound")
            }
            entries.append(entry)
        }
        return entries
    }

    private static func snapshot(_ reader: inout ByteReader) throws(DecodeError) -> Snapshot {
        let index = LogIndex(try position(&reader))
        let term = Term(try position(&reader))
        let autoLeave = try reader.read(UInt8.self)
        guard autoLeave <= 1 else { throw reader.failure("unknown snapshot flags") }
        let voters = try peers(&reader)
        let learners = try peers(&reader)
        let votersOutgoing = try peers(&reader)
        let configuration = ConfigurationState(
            voters: voters, learners: learners, votersOutgoing: votersOutgoing,
            learnersNext: try peers(&reader), autoLeave: autoLeave == 1)
        return Snapshot(
            index: index, term: term, configuration: configuration,
            data: try reader.readLengthPrefixed())
    }

    private static func peers(_ reader: inout ByteReader) throws(DecodeError) -> [PeerID] {
        let count = Int(try reader.read(UInt32.self))
        guard count <= reader.remaining / 8 else {
            throw reader.failure("\(count) peers claimed in \(reader.remaining) bytes")
        }
        var peers: [PeerID] = []
        peers.reserveCapacity(count)
        for _ in 0..<count { peers.append(PeerID(try position(&reader))) }
        return peers
    }

    private static func position(_ reader: inout ByteReader) throws(DecodeError) -> UInt64 {
        let value = try reader.read(UInt64.self)
        guard value < maxPosition else { throw reader.failure("a position past every bound") }
        return value
    }
}
