// One core, its disk, and an enemy that knows the wire format.

import UkehiBase
import UkehiNode
import UkehiRaft

@testable import UkehiTransport

struct FuzzedCore: ~Copyable {
    struct Tally {
        var frames = 0
        /// Frames that are none, or whose messages can't be read.
        var undecodable = 0
        var decoded = 0
        /// Refused by the core, with a reason.
        var refused = 0
        var stepped = 0

        mutating func add(_ other: Tally) {
            frames += other.frames
            undecodable += other.undecodable
            decoded += other.decoded
            refused += other.refused
            stepped += other.stepped
        }
    }

    private var random: SeededRandom
    private var node: RawNode
    private let disk: MemoryLogStorage
    private var ready = Ready()
    /// Messages the core itself sent: the soundest to start from.
    private var seen: [Message] = []
    /// The highest term that any message so far spoke of.
    private var highestTerm = Term.zero
    private(set) var tally = Tally()
    /// What must not be.
    private(set) var fault: String?

    private let own = PeerID(1)
    private let seed: UInt64
    private var isLearner: Bool { seed % 5 == 4 }

    /// A core that knows nothing; ``becomeSomething()`` follows.
    init(seed: UInt64) throws {
        self.seed = seed
        random = SeededRandom(seed)
        let isLearner = seed % 5 == 4
        disk = MemoryLogStorage(
            configuration: isLearner
                ? ConfigurationState(voters: [PeerID(2), PeerID(3)], learners: [own])
                : ConfigurationState(voters: [own, PeerID(2), PeerID(3)]))
        var settings = RaftConfiguration(id: own, electionTicks: 6, heartbeatTicks: 1)
        settings.seed = seed
        settings.asyncStorageWrites = true
        settings.leadOnlyWithDurableVote = true
        settings.preVote = seed % 2 == 0
        settings.checkQuorum = seed % 3 == 0
        settings.lazyCommitBroadcast = seed % 7 < 3
        settings.lazyCommitPersistence = seed % 7 < 3
        settings.maxInflightMessages = 3
        settings.maxUncommittedBytes = 100
        settings.maxMessageBytes = 100
        node = try RawNode(configuration: settings, storage: disk)
    }

    /// A follower with a log, a pre-candidate or candidate, a leader, or a peer that knows nothing.
    mutating func becomeSomething() throws {
        let role = seed / 5 % 4
        guard role > 0 else { return }
        var append = Message(kind: .appendEntries, to: own, from: PeerID(2), term: Term(1))
        append.entries = (1...4).map {
            Entry(term: Term(1), index: LogIndex($0), data: Bytes("\($0)"))
        }
        append.commit = LogIndex(2)
        try node.step(append)
        work()
        guard role > 1, !isLearner else { return }
        for _ in 0..<20 where node.role == .follower { node.tick() }
        work()
        guard role > 2 else { return }
        for kind in [MessageKind.requestPreVoteResponse, .requestVoteResponse] {
            let term = node.role == .preCandidate ? Term(node.term.rawValue + 1) : node.term
            try? node.step(Message(kind: kind, to: own, from: PeerID(3), term: term))
            work()
        }
        _ = try? node.propose("a command")
        try? node.readIndex(context: "read")
        work()
    }

    // MARK: The disk

    /// Does what the core wants done.
    private mutating func work() {
        for _ in 0..<20 where node.hasReady {
            node.takeReady(into: &ready)
            var local: [Message] = []
            for message in ready.messages {
                switch message.kind {
                case .storageAppend, .storageApply: local.append(message)
                default: see(message)
                }
            }
            for message in local { finish(message) }
        }
    }

    private mutating func finish(_ work: Message) {
        if work.kind == .storageAppend {
            if work.term != .zero {
                disk.setHardState(HardState(term: work.term, vote: work.vote, commit: work.commit))
            }
            if let snapshot = work.snapshot { try? disk.apply(snapshot) }
            do {
                try disk.append(work.entries)
            } catch {
                fault = "the core writes entries that leave a gap: \(error)"
            }
        } else {
            for entry in work.entries where entry.kind != .normal {
                if let change = try? ConfigurationChange.decode(entry) {
                    _ = try? node.applyConfChange(change)
                }
            }
        }
        for answer in work.responses {
            guard answer.to == own else {
                see(answer)
                continue
            }
            do {
                try node.step(answer)
            } catch {
                // Its own vote, once a forged snapshot has removed it, is a stranger's. But what the
                // storage was asked it may answer.
                if answer.from.isLocalTarget {
                    fault = "the core refuses its own storage's \(answer.kind): \(error)"
                }
            }
        }
    }

    private mutating func see(_ message: Message) {
        guard MessageCodec.travels(message.kind) else { return }
        seen.append(message)
        if seen.count > 64 { seen.removeFirst(32) }
    }

    // MARK: The enemy

    /// One frame from the network, and a bit of the node's own life.
    mutating func receive() {
        let termBefore = node.term
        let committedBefore = node.committed
        let bytes = forgedPayload()
        tally.frames += 1
        var messages: [RegionMessage] = []
        do {
            try MessageCodec.decode(bytes, into: &messages)
        } catch {
            tally.undecodable += 1
        }
        for item in messages {
            tally.decoded += 1
            highestTerm = max(highestTerm, item.message.term)
            step(item.message)
        }
        live()
        check(termBefore, committedBefore)
    }

    private mutating func step(_ message: Message) {
        // As the node does: nothing that only this peer or its storage may say.
        guard !message.kind.isLocal, message.from != own, !message.from.isLocalTarget else {
            return
        }
        let before = node.status
        do {
            try node.step(message)
            tally.stepped += 1
        } catch {
            tally.refused += 1
            if node.status != before {
                fault = "\(message.kind) was refused (\(error)) and yet changed the core"
            }
        }
    }

    private mutating func live() {
        switch Int.random(in: 0..<10, using: &random) {
        case 0...1: node.tick()
        case 2: _ = try? node.propose("x")
        case 3: node.campaign()
        case 4: try? node.readIndex(context: "r")
        case 5...7: work()
        default: break
        }
    }

    private mutating func check(_ termBefore: Term, _ committedBefore: LogIndex) {
        if node.committed < committedBefore { fault = "the commit index fell" }
        if node.committed > node.lastIndex { fault = "committed past the log's end" }
        if node.applied > node.committed { fault = "applied past the commit index" }
        if node.term < termBefore { fault = "the term fell" }
        // A term is only ever taken from a message, or raised by one in a campaign of our own, of which
        // each of three messages and the node's own life may start one.
        if node.term.rawValue > max(highestTerm.rawValue, termBefore.rawValue) + 4 {
            fault = "term \(node.term) comes from nowhere"
        }
        if node.term.rawValue > 1 << 62 { fault = "a term past every bound" }
        if node.isLeader, node.leader != own { fault = "a leader that follows another" }
    }

    /// The payload of a frame that passes its checksum.
    private mutating func forgedPayload() -> Bytes {
        let count = Int.random(in: 1...3, using: &random)
        var items: [RegionMessage] = []
        for _ in 0..<count {
            items.append(
                RegionMessage(
                    region: RegionID(7), epoch: RegionEpoch(confVersion: 1, version: 1),
                    message: forgedMessage()))
        }
        var bytes = encodeMessages(items).array
        // Half of the frames are as somebody who speaks the format would write them; of the others the
        // checksum is right too, since the damage is done before it is made.
        if Bool.random(using: &random) { return Bytes(bytes) }
        for _ in 0..<Int.random(in: 1...3, using: &random) {
            guard !bytes.isEmpty else { break }
            let at = Int.random(in: 0..<bytes.count, using: &random)
            switch Int.random(in: 0..<8, using: &random) {
            case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 1: bytes[at] = UInt8.random(in: 0...255, using: &random)
            case 2: bytes[at] = [0, 1, 0x7f, 0x80, 0xff].randomElement(using: &random) ?? 0
            case 3: bytes.removeSubrange(at...)
            case 4: bytes.remove(at: at)
            case 5: bytes.insert(UInt8.random(in: 0...255, using: &random), at: at)
            case 6: bytes += bytes[at...]
            default:
                // A field of eight bytes, where fields are.
                let field = 8 + at / 8 * 8
                guard field + 8 <= bytes.count else { break }
                let value = number()
                for offset in 0..<8 {
                    bytes[field + offset] = UInt8(truncatingIfNeeded: value >> (8 * offset))
                }
            }
        }
        return Bytes(bytes)
    }

    /// A number near those that matter here.
    private mutating func number() -> UInt64 {
        switch Int.random(in: 0..<40, using: &random) {
        case 0: .max
        case 1: 1 << 62
        case 2: (1 << 62) - 1
        case 3: 0
        case 4..<14: node.lastIndex.rawValue
        case 14..<20: node.lastIndex.rawValue + 1
        case 20..<28: node.committed.rawValue
        case 28..<34: node.term.rawValue
        default: UInt64.random(in: 0..<8, using: &random)
        }
    }

    /// A number that the codec can write.
    private mutating func position() -> UInt64 { min(number(), (1 << 62) - 1) }

    private mutating func id() -> PeerID {
        PeerID(UInt64.random(in: 0...(Bool.random(using: &random) ? 3 : 5), using: &random))
    }

    private mutating func forgedMessage() -> Message {
        var message: Message
        if let own = seen.randomElement(using: &random), Bool.random(using: &random) {
            message = own
            message.to = self.own
            message.from = PeerID(UInt64.random(in: 2...3, using: &random))
        } else {
            message = madeUp()
        }
        // One lie in an otherwise sound message gets further than many.
        for _ in 0..<Int.random(in: 0...2, using: &random) {
            switch Int.random(in: 0..<10, using: &random) {
            case 0: message.term = Term(position())
            case 1: message.logTerm = Term(position())
            case 2: message.index = LogIndex(position())
            case 3: message.commit = LogIndex(position())
            case 4: message.rejectHint = LogIndex(position())
            case 5: message.reject.toggle()
            case 6: message.from = id()
            case 7: message.to = id()
            case 8: message.context = random.bytes([0, 8, 16].randomElement(using: &random) ?? 8)
            default:
                if let place = message.entries.indices.randomElement(using: &random) {
                    message.entries[place].term = Term(position())
                }
            }
        }
        return message
    }

    private mutating func madeUp() -> Message {
        let kinds = (0..<24).compactMap { MessageKind(rawValue: $0) }
            .filter { MessageCodec.travels($0) }
        let kind = kinds.randomElement(using: &random) ?? .heartbeat
        let isRequest = [.readIndex, .transferLeader].contains(kind)
        var message = Message(
            kind: kind, to: own, from: PeerID(UInt64.random(in: 2...3, using: &random)),
            term: isRequest
                ? .zero : Term(node.term.rawValue + UInt64.random(in: 0...1, using: &random)))
        message.index = LogIndex(min(position(), node.lastIndex.rawValue + 1))
        message.logTerm = node.term(at: message.index) ?? .zero
        message.commit = LogIndex(min(position(), node.lastIndex.rawValue + 1))
        if kind == .appendEntries {
            for offset in 0..<UInt64.random(in: 0...3, using: &random) {
                message.entries.append(entry(message.index + (offset + 1), message.term))
            }
        }
        if kind == .installSnapshot {
            message.snapshot = Snapshot(
                index: LogIndex(position()), term: Term(position()),
                configuration: ConfigurationState(
                    voters: (0..<Int.random(in: 0...3, using: &random)).map {
                        PeerID(UInt64($0 + 1))
                    },
                    learners: Bool.random(using: &random) ? [] : [id()],
                    votersOutgoing: Bool.random(using: &random) ? [] : [id()],
                    learnersNext: Bool.random(using: &random) ? [] : [id()],
                    autoLeave: Bool.random(using: &random)))
        }
        return message
    }

    private mutating func entry(_ index: LogIndex, _ term: Term) -> Entry {
        let isChange = Int.random(in: 0..<5, using: &random) == 0
        guard isChange else { return Entry(term: term, index: index, data: random.bytes(3)) }
        let change = ConfigurationChange([
            .init(Bool.random(using: &random) ? .addVoter : .remove, id())
        ])
        return Entry(
            term: term, index: index, kind: .confChangeV2,
            data: Bool.random(using: &random) ? change.encoded() : random.bytes(4))
    }
}
