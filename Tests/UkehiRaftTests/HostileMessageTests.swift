// Messages that no correct peer sends: each is refused with its reason and changes nothing, and no
// sequence of them stops the process.

import Testing
import UkehiBase

@testable import UkehiRaft

@Suite("Hostile messages")
struct HostileMessageTests {
    private func leaderOfThree() throws -> RaftCluster {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        try cluster.propose("x", at: 1)
        try cluster.settle()
        return cluster
    }

    private static func message(
        _ kind: MessageKind, _ change: (inout Message) -> Void = { _ in }
    ) -> Message {
        var message = Message(kind: kind, to: PeerID(2), from: PeerID(1), term: Term(1))
        change(&message)
        return message
    }

    private static func entry(_ term: UInt64, _ index: UInt64) -> Entry {
        Entry(term: Term(term), index: LogIndex(index))
    }

    private static let table: [(String, Message, RaftError)] = [
        (
            "for another peer", message(.heartbeat) { $0.to = PeerID(3) },
            .malformed(.wrongRecipient)
        ),
        ("from nobody", message(.heartbeat) { $0.from = .none }, .malformed(.noSender)),
        (
            "from a storage", message(.appendEntries) { $0.from = .localAppend },
            .malformed(.noSender)
        ),
        ("term zero", message(.appendEntries) { $0.term = .zero }, .malformed(.termOutOfRange)),
        ("term max", message(.requestVote) { $0.term = Term(.max) }, .malformed(.termOutOfRange)),
        (
            "index max", message(.appendEntries) { $0.index = LogIndex(.max) },
            .malformed(.indexOutOfRange)
        ),
        (
            "commit max", message(.heartbeat) { $0.commit = LogIndex(.max) },
            .malformed(.indexOutOfRange)
        ),
        (
            "commit past our log", message(.heartbeat) { $0.commit = LogIndex(3) },
            .malformed(.commitPastLog)
        ),
        (
            "a gap before the entries",
            message(.appendEntries) {
                ($0.index, $0.logTerm) = (LogIndex(2), Term(1))
                $0.entries = [entry(1, 4)]
            }, .malformed(.entriesNotContiguous)
        ),
        (
            "a gap between entries",
            message(.appendEntries) {
                ($0.index, $0.logTerm) = (LogIndex(2), Term(1))
                $0.entries = [entry(1, 3), entry(1, 5)]
            }, .malformed(.entriesNotContiguous)
        ),
        (
            "falling terms",
            message(.appendEntries) {
                ($0.index, $0.logTerm, $0.term) = (LogIndex(2), Term(1), Term(3))
                $0.entries = [entry(3, 3), entry(2, 4)]
            }, .malformed(.entriesNotContiguous)
        ),
        (
            "an entry of a term to come",
            message(.appendEntries) {
                ($0.index, $0.logTerm) = (LogIndex(2), Term(1))
                $0.entries = [entry(2, 3)]
            }, .malformed(.entriesNotContiguous)
        ),
        (
            "a term before the log",
            message(.appendEntries) { $0.logTerm = Term(1) }, .malformed(.entriesNotContiguous)
        ),
        ("no snapshot", message(.installSnapshot), .malformed(.noSnapshot)),
        (
            "a snapshot of no group",
            message(.installSnapshot) {
                $0.snapshot = Snapshot(
                    index: LogIndex(9), term: Term(1), configuration: ConfigurationState())
            }, .malformed(.impossibleMembership)
        ),
        (
            "a snapshot whose learner votes",
            message(.installSnapshot) {
                $0.snapshot = Snapshot(
                    index: LogIndex(9), term: Term(1),
                    configuration: ConfigurationState(voters: [PeerID(2)], learners: [PeerID(2)]))
            }, .malformed(.impossibleMembership)
        ),
        (
            "an answer of a stranger",
            message(.appendEntriesResponse) { $0.from = PeerID(9) }, .unknownPeer(PeerID(9))
        ),
        ("a local kind", message(.hup), .localMessage(.hup)),
        (
            "storage work of a peer", message(.storageAppendResponse),
            .localMessage(.storageAppendResponse)
        ),
        (
            "storage work as a request",
            message(.storageAppend) { $0.from = .localAppend }, .localMessage(.storageAppend)
        ),
        (
            "a damaged peer's request", message(.requestEntries) { $0.logTerm = Term(1) },
            .localMessage(.requestEntries)
        ),
        (
            "entries for a damaged peer",
            message(.requestEntriesResponse) { $0.entries = [entry(1, 1)] },
            .localMessage(.requestEntriesResponse)
        ),
        (
            "a damaged peer's request to itself",
            message(.requestEntries) { $0.from = PeerID(2) }, .localMessage(.requestEntries)
        ),
        ("an empty proposal", message(.propose) { $0.term = .zero }, .malformed(.noEntries)),
        (
            "an applied entry that was never handed out",
            message(.storageApplyResponse) {
                $0.from = .localApply
                $0.entries = [entry(1, 50)]
            }, .malformed(.unknownStorageWork)
        ),
        (
            "a snapshot that was never handed out",
            message(.storageAppendResponse) {
                $0.from = .localAppend
                $0.snapshot = Snapshot(
                    index: LogIndex(50), term: Term(1),
                    configuration: ConfigurationState(voters: [PeerID(2)]))
            }, .malformed(.unknownStorageWork)
        ),
    ]

    @Test("each fault is refused with its reason and changes nothing", arguments: 0..<table.count)
    func refused(number: Int) throws {
        let (name, message, expected) = Self.table[number]
        let cluster = try leaderOfThree()
        let before = cluster[2].status
        #expect(throws: expected, "\(name)") { try cluster[2].raft.step(message) }
        #expect(cluster[2].status == before)
        #expect(!cluster[2].hasReady)
    }

    @Test("a leader refuses acknowledgements and confirmations of what it never sent")
    func leaderFaults() throws {
        let cluster = try leaderOfThree()
        let before = cluster[1].status
        #expect(throws: RaftError.malformed(.acknowledgedPastLog)) {
            try cluster[1].raft.step(
                Message(
                    kind: .appendEntriesResponse, to: PeerID(1), from: PeerID(2), term: Term(1),
                    index: LogIndex(3)))
        }
        for context in ["short", "long enough", "12345678"] as [Bytes] {
            #expect(throws: RaftError.malformed(.unknownReadContext)) {
                try cluster[1].raft.step(
                    Message(
                        kind: .heartbeatResponse, to: PeerID(1), from: PeerID(2), term: Term(1),
                        context: context))
            }
        }
        #expect(throws: RaftError.malformed(.undecodableChange)) {
            try cluster[1].raft.step(
                Message(
                    kind: .propose, to: PeerID(1), from: PeerID(2),
                    entries: [
                        Entry(
                            term: .zero, index: .zero, kind: .confChangeV2, data: "no change")
                    ]))
        }
        #expect(cluster[1].status == before)
    }

    @Test("reads that wait are bounded")
    func readFlood() throws {
        let cluster = try leaderOfThree()
        var refused = 0
        for _ in 0..<70_000 {
            do {
                try cluster[1].raft.step(
                    Message(kind: .readIndex, to: PeerID(1), from: PeerID(2), context: "r"))
            } catch {
                #expect(error == .overloaded)
                refused += 1
            }
            cluster[1].raft.core.messages.removeAll(keepingCapacity: true)
        }
        #expect(refused == 70_000 - 65_536)
    }

    /// Any message at all, near the values that matter.
    private func anyMessage(_ random: inout SeededRandom, _ peer: TestPeer) -> Message {
        func number() -> UInt64 {
            switch random.below(90) {
            case 0: .max
            case 1: .max - 1
            case 2: 1 << 62
            case 3: (1 << 62) - 1
            case 4: 0
            case 5..<40: peer.lastIndex.rawValue
            case 40..<50: peer.lastIndex.rawValue + 1
            case 50..<80: peer.committed.rawValue
            default: UInt64(random.below(8))
            }
        }
        func term() -> Term {
            random.chance(95) ? peer.term : Term(number())
        }
        func id() -> PeerID {
            switch random.below(20) {
            case 0: .none
            case 1: .localAppend
            case 2: .localApply
            default: PeerID(UInt64(1 + random.below(random.chance(80) ? 3 : 5)))
            }
        }
        let kind = MessageKind(rawValue: UInt8(random.below(26))) ?? .hup
        var message = Message(
            kind: kind, to: random.chance(90) ? peer.id : id(), from: id(), term: term(),
            logTerm: term(), index: LogIndex(number()), commit: LogIndex(number()), vote: id(),
            reject: random.chance(30), rejectHint: LogIndex(number()))
        let isPlain = [.propose, .readIndex, .transferLeader].contains(kind)
        if isPlain, random.chance(90) { message.term = .zero }
        if kind.isLocal { message.from = random.chance(50) ? .localAppend : .localApply }
        let base = random.chance(90) ? message.index.rawValue &+ 1 : number()
        for offset in 0..<UInt64(random.below(4)) {
            let kinds: [EntryKind] = [.normal, .normal, .confChange, .confChangeV2]
            message.entries.append(
                Entry(
                    term: term(), index: LogIndex(base &+ offset),
                    kind: kinds[random.below(4)],
                    data: random.chance(50)
                        ? Bytes()
                        : ConfigurationChange([.init(.addVoter, PeerID(number()))]).encoded()))
        }
        if random.chance(20) {
            message.snapshot = Snapshot(
                index: LogIndex(number()), term: term(),
                configuration: ConfigurationState(
                    voters: (0..<random.below(4)).map { _ in id() },
                    learners: (0..<random.below(2)).map { _ in id() },
                    votersOutgoing: (0..<random.below(2)).map { _ in id() }))
        }
        if random.chance(15) { message.context = ReadQueue.encode(number()) }
        if random.chance(10) { message.context = CampaignContext.transfer }
        return message
    }

    @Test("no sequence of messages stops a core", arguments: 1...6)
    func fuzz(block: UInt64) throws {
        var stepped = 0
        for seed in 0..<60 as Range<UInt64> {
            var random = SeededRandom(block * 1000 + seed)
            let preVote = random.chance(50)
            let checkQuorum = random.chance(50)
            let cluster = try RaftCluster(voters: [1, 2, 3], base: 5) {
                $0.preVote = preVote
                $0.checkQuorum = checkQuorum
                $0.maxInflightMessages = 3
                $0.maxUncommittedBytes = 50
            }
            try cluster.elect(1)
            cluster.forgesStorage = true
            let peer = cluster[UInt64(1 + random.below(2))]
            for _ in 0..<150 {
                if (try? peer.raft.step(anyMessage(&random, peer))) != nil { stepped += 1 }
                switch random.below(12) {
                case 0: peer.raft.tick()
                case 1: _ = try? peer.raft.propose("x")
                case 2: peer.raft.campaign()
                case 3: try? peer.raft.readIndex(context: "r")
                case 4: peer.raft.transferLeadership(to: PeerID(UInt64(random.below(5))))
                case 5: peer.raft.reportSnapshot(PeerID(UInt64(random.below(5))), ok: true)
                case 6:
                    // A storage that does what it is told, whatever that came from.
                    cluster.collect(peer)
                    try? cluster.work(peer)
                default: break
                }
            }
        }
        #expect(stepped > 2_000, "much of what is tried should get past the first check")
    }
}
