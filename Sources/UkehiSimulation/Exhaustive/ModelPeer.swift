// One peer of a small world: its core, its disk, and what it has asked of the disk.
//
//   input ──▶ core ──▶ messages to others ─────────────────────────────▶ the network
//               ▲  └─▶ writes ──▶ pending[0], [1] … ──▶ disk ──▶ their answers
//               └── own answers ◀──────────────────────────┘
//
// What is committed and durable is applied at once: a state machine decides nothing here. A crash takes
// the core and all pending writes; the peer goes on, at once, from its disk. (A peer that stays down is
// one that nothing is delivered to for a while.)

import UkehiBase
import UkehiRaft

/// What a peer can be given.
enum PeerInput: Hashable {
    case campaign
    /// A command, numbered from 1.
    case propose(UInt64)
    case heartbeat
    /// The oldest pending write is done, or all of them.
    case write
    case crash
    case deliver(Message)
}

/// A peer with its disk.
final class ModelPeer {
    private(set) var node: RawNode
    private(set) var disk: MemoryLogStorage
    /// Storage writes asked for, oldest first.
    private(set) var pending: [Message] = []
    private let bounds: ExplorationBounds
    let id: PeerID

    static let voters = ConfigurationState(voters: [PeerID(1), PeerID(2), PeerID(3)])

    /// A peer that has never heard of anything.
    init(_ id: PeerID, _ bounds: ExplorationBounds) throws(RaftError) {
        self.id = id
        self.bounds = bounds
        disk = MemoryLogStorage(configuration: Self.voters)
        node = try Self.start(id, bounds, disk)
    }

    private init(
        _ id: PeerID, _ bounds: ExplorationBounds, _ node: consuming RawNode,
        _ disk: MemoryLogStorage, _ pending: [Message]
    ) {
        self.id = id
        self.bounds = bounds
        self.node = node
        self.disk = disk
        self.pending = pending
    }

    /// As a node starts its cores, but for what needs a clock.
    private static func start(
        _ id: PeerID, _ bounds: ExplorationBounds, _ disk: MemoryLogStorage
    ) throws(RaftError) -> RawNode {
        var settings = RaftConfiguration(id: id, electionTicks: 10, heartbeatTicks: 1)
        settings.asyncStorageWrites = true
        settings.preVote = bounds.preVote
        settings.disableProposalForwarding = true
        settings.stepDownOnRemoval = true
        settings.lazyCommitBroadcast = true
        settings.lazyCommitPersistence = true
        settings.restartCampaignBarrier = true
        settings.leadOnlyWithDurableVote = true
        if bounds.singleEntryAppends { settings.maxMessageBytes = 1 }
        settings.maxCommittedBytesPerReady = .max
        return try RawNode(configuration: settings, storage: disk)
    }

    /// The same peer once more, to be given something else.
    func fork() -> ModelPeer {
        let disk = Self.copy(disk)
        return ModelPeer(id, bounds, node.fork(storage: disk), disk, pending)
    }

    private static func copy(_ disk: MemoryLogStorage) -> MemoryLogStorage {
        let copy = MemoryLogStorage(configuration: voters)
        copy.setHardState(disk.initialState().hardState)
        // An empty log takes any entries that start at 1, as these do.
        try? copy.append(disk.allEntries)
        return copy
    }

    // MARK: Inputs

    /// Gives the peer an input and does what follows from it at once; returns the messages that it
    /// sends.
    ///
    /// - Throws: When the core refuses the input. No peer of this world may say what is refused.
    func give(_ input: PeerInput) throws(RaftError) -> [Message] {
        var sent: [Message] = []
        switch input {
        case .campaign: node.campaign()
        case .propose(let number):
            try node.propose(Bytes([UInt8(truncatingIfNeeded: number)]))
        // A leader's tick is a heartbeat here; no other peer is given one, and no clock runs out.
        case .heartbeat: node.tick()
        case .write:
            for _ in 0..<(bounds.writesTogether ? pending.count : 1) { try writeOldest(&sent) }
        case .crash:
            pending = []
            disk = Self.copy(disk)
            node = try Self.start(id, bounds, disk)
        case .deliver(let message): try node.step(message)
        }
        try settle(&sent)
        return sent
    }

    private func writeOldest(_ sent: inout [Message]) throws(RaftError) {
        let write = pending.removeFirst()
        if write.term != .zero {
            disk.setHardState(
                HardState(term: write.term, vote: write.vote, commit: write.commit))
        }
        do {
            try disk.append(write.entries)
        } catch {
            throw .inconsistentStorage("a write leaves a gap in the log")
        }
        for answer in write.responses {
            if answer.to == id { try node.step(answer) } else { sent.append(answer) }
        }
    }

    /// Takes everything the core wants done, and applies what may be applied.
    private func settle(_ sent: inout [Message]) throws(RaftError) {
        var ready = Ready()
        while true {
            while node.hasReady {
                node.takeReady(into: &ready)
                for message in ready.messages {
                    switch message.kind {
                    case .storageAppend: ask(message)
                    case .storageApply:
                        for answer in message.responses { try node.step(answer) }
                    default: sent.append(message)
                    }
                }
            }
            // A write of nothing, with nothing in front, can't be lost; that its answers come late is
            // the network's to say.
            guard let first = pending.first, bounds.instantDisk || isEmpty(first) else { return }
            try writeOldest(&sent)
        }
    }

    /// Queues a write. Where the network forgets nothing, an answer that waits for an earlier write says
    /// nothing new: leaving it out keeps queues finite, however often the question is delivered. (The
    /// storage's own answer may go too: within a term, equal ones do the same.)
    private func ask(_ write: Message) {
        var write = write
        if bounds.disturbances == nil {
            write.responses.removeAll { answer in
                pending.contains { $0.responses.contains(answer) }
            }
            if write.entries.isEmpty, write.term == .zero, write.responses.isEmpty { return }
        }
        pending.append(write)
    }

    private func isEmpty(_ write: Message) -> Bool {
        write.entries.isEmpty && write.term == .zero
            && write.responses.allSatisfy { $0.to != id }
    }

    // MARK: Looking

    /// What the rules of Raft speak of.
    var facts: PeerFacts {
        PeerFacts(
            term: node.term.rawValue, isLeader: node.isLeader,
            committed: Int(node.committed.rawValue), log: node.allEntries().map(LogCell.init),
            durable: disk.allEntries.map(LogCell.init))
    }

    /// The term that no crash takes away.
    var durableTerm: Term { disk.initialState().hardState.term }

    /// The words that decide what this peer will do, names aside.
    func fingerprint(_ naming: Naming) -> Fingerprint {
        var printer = Fingerprinter(kind: 1)
        printer.add(naming.name(id))
        node.describe(peers: naming.order, name: naming.name) { printer.add($0) }
        let durable = disk.initialState().hardState
        printer.add(durable.term.rawValue)
        printer.add(naming.name(durable.vote))
        printer.add(durable.commit.rawValue)
        printer.add(disk.lastIndex.rawValue)
        for entry in disk.allEntries { entry.describe { printer.add($0) } }
        for write in pending {
            write.describe(naming, to: &printer)
            printer.add(naming.name(write.vote))
            printer.add(UInt64(write.responses.count))
            // What goes to others goes in any order: they are asked for votes by their names'.
            var others = Fingerprint.zero
            for answer in write.responses {
                if answer.to == id {
                    answer.describe(naming, to: &printer)
                } else {
                    others = others &+ answer.fingerprint(naming)
                }
            }
            printer.add(others.low)
            printer.add(others.high)
        }
        return printer.value
    }
}

extension Message {
    /// What the message says, names aside. Storage writes say more.
    func describe(_ naming: Naming, to printer: inout Fingerprinter) {
        printer.add(UInt64(kind.rawValue) | (reject ? 1 << 8 : 0))
        printer.add(naming.name(to) | naming.name(from) << 8)
        printer.add(term.rawValue)
        printer.add(logTerm.rawValue)
        printer.add(index.rawValue)
        printer.add(commit.rawValue)
        printer.add(rejectHint.rawValue)
        printer.add(UInt64(context.count))
        printer.add(UInt64(entries.count))
        for entry in entries { entry.describe { printer.add($0) } }
    }

    func fingerprint(_ naming: Naming) -> Fingerprint {
        var printer = Fingerprinter(kind: 2)
        describe(naming, to: &printer)
        return printer.value
    }
}
