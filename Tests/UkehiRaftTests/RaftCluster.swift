// A group of cores with disks, moved by hand: nothing is delivered, written or applied that a test
// does not ask for. Storage is asynchronous, as in the node.

import Testing
import UkehiBase

@testable import UkehiRaft

/// A disk: what survives a crash.
final class TestDisk: MemoryLogStorage {
    /// How far the state machine is on disk, with its membership and state then.
    var flushed: Snapshot
    /// Reads of entries that fail once with "being fetched".
    var failingReads = 0

    init(_ first: Snapshot) {
        flushed = first
        super.init(configuration: first.configuration)
        if !first.isEmpty {
            try? apply(first)
            setHardState(HardState(term: first.term, commit: first.index))
        }
    }

    override func initialState() -> (hardState: HardState, configuration: ConfigurationState) {
        (super.initialState().hardState, flushed.configuration)
    }
    override func snapshot() throws(LogStorageError) -> Snapshot { flushed }
    override func entries(
        from: LogIndex, to: LogIndex, maxBytes: UInt64
    ) throws(LogStorageError) -> [Entry] {
        if failingReads > 0 {
            failingReads -= 1
            throw .temporarilyUnavailable
        }
        return try super.entries(from: from, to: to, maxBytes: maxBytes)
    }
}

/// One peer: a core, its disk, its state machine.
final class TestPeer {
    var raft: RawNode
    let disk: TestDisk
    let settings: RaftConfiguration
    /// The membership and a digest of everything applied.
    var state: Snapshot
    /// Every command applied since the start, for tests that look.
    var commands: [String] = []
    var readStates: [ReadState] = []
    /// Storage messages that wait to be done, in order.
    var appends: [Message] = []
    var applies: [Message] = []
    var ready = Ready()

    init(_ settings: RaftConfiguration, disk: TestDisk) throws {
        var settings = settings
        settings.applied = disk.flushed.index
        self.settings = settings
        self.disk = disk
        state = disk.flushed
        raft = try RawNode(configuration: settings, storage: disk)
    }

    static func digest(_ state: Bytes, _ entry: Entry) -> Bytes {
        // FNV-1a over the old digest, the place and the data.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        func add(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        for byte in state.array { add(byte) }
        for shift in stride(from: 0, to: 64, by: 8) {
            add(UInt8(truncatingIfNeeded: entry.index.rawValue >> UInt64(shift)))
            add(UInt8(truncatingIfNeeded: entry.term.rawValue >> UInt64(shift)))
        }
        for byte in entry.data.array { add(byte) }
        return withUnsafeBytes(of: hash) { Bytes(copying: $0) }
    }
}

/// What tests look at; expectations can't hold a node itself, since it can't be copied.
extension TestPeer {
    var id: PeerID { raft.id }
    var isLeader: Bool { raft.isLeader }
    var role: Role { raft.role }
    var leader: PeerID { raft.leader }
    var term: Term { raft.term }
    var vote: PeerID { raft.vote }
    var committed: LogIndex { raft.committed }
    var applied: LogIndex { raft.applied }
    var lastIndex: LogIndex { raft.lastIndex }
    var status: RaftStatus { raft.status }
    var configuration: Configuration { raft.configuration }
    var mayHaveAbdicated: Bool { raft.mayHaveAbdicated }
    var transferee: PeerID { raft.leadTransferee }
    var uncommittedBytes: UInt64 { raft.uncommittedBytes }
    var hasReady: Bool { raft.hasReady }
    var isSupportingLeader: Bool { raft.isSupportingLeader }
    var isDamaged: Bool { raft.isDamaged }
    func progress(of id: UInt64) -> PeerProgress? { raft.progress(of: PeerID(id)) }
    var hearsLeader: Bool { raft.hearsLeader }
}

/// The peers and the network between them.
final class RaftCluster {
    private(set) var peers: [TestPeer] = []
    var network: [Message] = []
    /// Whether a test answers for the storage what the storage did not do.
    var forgesStorage = false
    /// Called with each entry a peer applies, after it did.
    var onApply: (TestPeer, Entry) -> Void = { _, _ in }

    /// Peers 1... that start with the same empty log. With a `base` they start from a snapshot there, so
    /// that a peer added later needs one.
    init(
        voters: [UInt64], learners: [UInt64] = [], extra: Int = 0, base: UInt64 = 0,
        _ configure: (inout RaftConfiguration) -> Void = { _ in }
    ) throws {
        let members = ConfigurationState(
            voters: voters.map { PeerID($0) }, learners: learners.map { PeerID($0) })
        let known = voters.count + learners.count
        for number in 1...UInt64(known + extra) {
            var settings = RaftConfiguration(
                id: PeerID(number), electionTicks: 10, heartbeatTicks: 1)
            settings.asyncStorageWrites = true
            settings.seed = 77
            configure(&settings)
            var first = Snapshot.empty
            if number <= known {
                first = Snapshot(
                    index: LogIndex(base), term: Term(base), configuration: members)
            }
            peers.append(try TestPeer(settings, disk: TestDisk(first)))
        }
    }

    subscript(id: UInt64) -> TestPeer { peers[Int(id) - 1] }

    // MARK: Work of one peer

    /// Takes what a peer has to say: messages go to the network, storage work to its queues.
    func collect(_ peer: TestPeer) {
        while peer.raft.hasReady {
            peer.raft.takeReady(into: &peer.ready)
            peer.readStates += peer.ready.readStates
            for message in peer.ready.messages {
                switch message.to {
                case .localAppend: peer.appends.append(message)
                case .localApply: peer.applies.append(message)
                default: network.append(message)
                }
            }
        }
    }

    /// Completes the oldest write of a peer, and releases what waited for it.
    func write(_ peer: TestPeer) throws {
        guard !peer.appends.isEmpty else { return }
        let message = peer.appends.removeFirst()
        let state = HardState(term: message.term, vote: message.vote, commit: message.commit)
        if !state.isEmpty { peer.disk.setHardState(state) }
        if let snapshot = message.snapshot, snapshot.index > peer.disk.flushed.index {
            try peer.disk.apply(snapshot)
            peer.disk.flushed = snapshot
            if snapshot.index > peer.state.index { peer.state = snapshot }
        }
        try peer.disk.append(message.entries)
        release(message.responses, of: peer)
    }

    /// Applies the oldest batch of a peer.
    func apply(_ peer: TestPeer) throws {
        guard !peer.applies.isEmpty else { return }
        let message = peer.applies.removeFirst()
        for entry in message.entries where entry.index > peer.state.index {
            if !forgesStorage { #expect(entry.index == peer.state.index + 1) }
            peer.state.index = entry.index
            peer.state.term = entry.term
            peer.state.data = TestPeer.digest(peer.state.data, entry)
            if entry.kind == .normal {
                if !entry.data.isEmpty {
                    peer.commands.append(String(decoding: entry.data.array, as: UTF8.self))
                }
            } else if let change = try? ConfigurationChange.decode(entry),
                let members = try? peer.raft.applyConfChange(change)
            {
                peer.state.configuration = members
            }
            onApply(peer, entry)
        }
        release(message.responses, of: peer)
    }

    private func release(_ responses: [Message], of peer: TestPeer) {
        for response in responses {
            if response.to == peer.raft.id {
                // A peer that was removed is not told of its own appends.
                try? peer.raft.step(response)
            } else {
                network.append(response)
            }
        }
        collect(peer)
    }

    /// Does everything one peer has to do but sending.
    func work(_ peer: TestPeer) throws {
        collect(peer)
        while !peer.appends.isEmpty || !peer.applies.isEmpty {
            while !peer.appends.isEmpty { try write(peer) }
            while !peer.applies.isEmpty { try apply(peer) }
        }
    }

    // MARK: The network

    /// Delivers one message; a refusal is an ordinary outcome here.
    func deliver(_ message: Message) {
        guard message.to.rawValue >= 1, message.to.rawValue <= UInt64(peers.count) else { return }
        let peer = self[message.to.rawValue]
        try? peer.raft.step(message)
        collect(peer)
    }

    /// Takes the messages that `matches`, in order.
    func take(_ matches: (Message) -> Bool) -> [Message] {
        let taken = network.filter(matches)
        network.removeAll(where: matches)
        return taken
    }

    func drop(_ matches: (Message) -> Bool) { network.removeAll(where: matches) }

    /// Works and delivers between `ids` until nothing is left; what goes elsewhere is lost.
    func settle(_ ids: [UInt64]? = nil) throws {
        let ids = ids ?? (1...UInt64(peers.count)).map { $0 }
        var isBusy = true
        var rounds = 0
        while isBusy {
            rounds += 1
            #expect(rounds < 10_000, "the group does not come to rest")
            if rounds >= 10_000 { return }
            isBusy = false
            for id in ids { try work(self[id]) }
            for message in take({ _ in true })
            where ids.contains(message.from.rawValue) && ids.contains(message.to.rawValue) {
                deliver(message)
                isBusy = true
            }
        }
    }

    // MARK: Scenarios

    /// Elects a peer with the votes of `ids`, and lets them come to rest.
    func elect(_ id: UInt64, among ids: [UInt64]? = nil) throws {
        self[id].raft.campaign()
        try settle(ids)
        #expect(self[id].isLeader, "\(id) was not elected")
    }

    @discardableResult
    func propose(_ command: String, at id: UInt64) throws -> LogIndex {
        try self[id].raft.propose(Bytes(command)).index
    }

    func tick(_ id: UInt64, _ count: Int = 1) {
        for _ in 0..<count { self[id].raft.tick() }
        collect(self[id])
    }

    /// The peer loses everything that is not on its disk, and starts again.
    func restart(_ id: UInt64) throws {
        let old = self[id]
        peers[Int(id) - 1] = try TestPeer(old.settings, disk: old.disk)
    }

    /// The terms of a peer's whole log, compacted part left out.
    func terms(of id: UInt64) -> [UInt64] {
        let raft = self[id]
        var index = raft.raft.firstIndex
        var terms: [UInt64] = []
        while index <= raft.raft.lastIndex {
            terms.append(raft.raft.term(at: index)?.rawValue ?? 0)
            index = index + 1
        }
        return terms
    }

    /// Gives a peer a log written in the given terms, and a term, as if it had lived through them.
    func setLog(of id: UInt64, terms: [UInt64], term: UInt64) throws {
        let disk = self[id].disk
        try disk.append(
            terms.enumerated().map { place, term in
                Entry(
                    term: Term(term), index: LogIndex(UInt64(place) + 1),
                    data: Bytes("\(place + 1) of term \(term)"))
            })
        disk.setHardState(HardState(term: Term(term)))
        try restart(id)
    }
}
