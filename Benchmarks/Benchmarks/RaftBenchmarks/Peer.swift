// One core with a disk that is always done, and three of them with a network that is.

import UkehiBase
import UkehiRaft

/// A core and its log in memory.
final class Peer {
    var node: RawNode
    let storage: MemoryLogStorage
    private var ready = Ready()
    private let id: PeerID

    init(_ id: UInt64, _ configuration: ConfigurationState) throws {
        self.id = PeerID(id)
        storage = MemoryLogStorage(configuration: configuration)
        var settings = RaftConfiguration(id: PeerID(id), electionTicks: 10, heartbeatTicks: 1)
        settings.checkQuorum = true
        settings.lazyCommitBroadcast = true
        node = try RawNode(configuration: settings, storage: storage)
    }

    /// A follower of peer 1 in term 1.
    static func follower() throws -> Peer {
        let peer = try Peer(2, Peer.three)
        try peer.append(1)
        return peer
    }

    /// Peer 1, elected by `others` and with its first entry acknowledged.
    static func leader(_ configuration: ConfigurationState, others: [UInt64]) throws -> Peer {
        let peer = try Peer(1, configuration)
        peer.node.campaign()
        try peer.work()
        for other in others { try peer.answer(.requestVoteResponse, from: other, index: .zero) }
        try peer.work()
        for other in others { try peer.acknowledge(from: other) }
        try peer.work()
        guard peer.node.isLeader else { fatalError("peer 1 was not elected") }
        return peer
    }

    static let three = ConfigurationState(voters: [PeerID(1), PeerID(2), PeerID(3)])

    /// Does what the core wants done; messages go to `send`.
    func work(send: (Message) throws -> Void = { _ in }) throws {
        while node.hasReady {
            node.takeReady(into: &ready)
            if let state = ready.hardState { storage.setHardState(state) }
            if !ready.entries.isEmpty { try storage.append(ready.entries) }
            for message in ready.messages { try send(message) }
            node.advance()
        }
        // What is applied is not needed again; now and then, so that it costs nothing.
        if storage.lastIndex > storage.firstIndex + 8192, node.applied > storage.firstIndex {
            try storage.compact(to: node.applied)
        }
    }

    func answer(_ kind: MessageKind, from other: UInt64, index: LogIndex) throws {
        try node.step(
            Message(kind: kind, to: id, from: PeerID(other), term: Term(1), index: index))
    }

    func acknowledge(from other: UInt64) throws {
        try answer(.appendEntriesResponse, from: other, index: node.lastIndex)
    }

    /// A follower is sent `count` entries and the news that all before them are committed.
    func append(_ count: Int) throws {
        let last = node.lastIndex
        var entries: [Entry] = []
        entries.reserveCapacity(count)
        for offset in 1...UInt64(count) {
            entries.append(Entry(term: Term(1), index: last + offset, data: payload))
        }
        try node.step(
            Message(
                kind: .appendEntries, to: id, from: PeerID(1), term: Term(1),
                logTerm: last == .zero ? .zero : Term(1), index: last, commit: last,
                entries: entries))
        try work()
    }
}

/// Sixteen bytes, shared by all entries: what is measured is the core, not the copying of commands.
let payload = Bytes("sixteen bytes..!")
let batches = [1, 64, 1024].map { count in (count, Array(repeating: payload, count: count)) }

/// Three peers that hear each other at once.
final class Group {
    private let peers: [Peer]
    private var network: [Message] = []
    private var delivered: [Message] = []

    init() throws {
        peers = try (1...3).map { try Peer($0, Peer.three) }
        peers[0].node.campaign()
        try settle()
        guard peers[0].node.isLeader else { fatalError("peer 1 was not elected") }
    }

    /// A batch is proposed, appended by all three, committed and applied by the leader; the followers hear
    /// of the commit with the next one.
    func replicate(_ batch: [Bytes]) throws {
        try peers[0].node.propose(batch: batch)
        try settle()
    }

    var committed: LogIndex { peers[0].node.committed }

    private func settle() throws {
        while true {
            for peer in peers { try peer.work { network.append($0) } }
            if network.isEmpty { return }
            swap(&network, &delivered)
            for message in delivered { try peers[Int(message.to.rawValue) - 1].node.step(message) }
            delivered.removeAll(keepingCapacity: true)
        }
    }
}
