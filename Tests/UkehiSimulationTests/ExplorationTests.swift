// A small world of bare cores, exhausted; and whether the checks would notice.

import Testing
import UkehiBase
import UkehiRaft

@testable import UkehiSimulation

@Suite("Small worlds, exhausted")
struct ExplorationTests {
    /// Each bound is visited to its end; larger ones by `ukehi simulate --exhaustive`.
    @Test(
        "no promise of Raft is broken in any state",
        arguments: [
            // Slow disks: what a crash takes was asked for but not written.
            World(elections: 2, commands: 0, crashes: 1),
            World(elections: 1, commands: 1, crashes: 1),
            World(elections: 2, commands: 1, crashes: 0),
            // Losses and duplicates one by one; a network that forgets nothing covers them all.
            World(elections: 1, commands: 0, crashes: 1, losses: 2),
            // Disks that are done at once.
            World(elections: 2, commands: 1, crashes: 1, isInstant: true),
            World(elections: 3, commands: 0, crashes: 0, isInstant: true, isSingle: true),
            World(elections: 1, commands: 1, crashes: 0, heartbeats: 1, isInstant: true),
            World(elections: 1, commands: 0, crashes: 1, isInstant: true, asksFirst: true),
        ])
    func exhausted(world: World) {
        let result = Explorer(world.bounds).run()
        #expect(result.isComplete)
        #expect(result.broken == nil, "\(result.trace)")
        #expect(result.progress.states > 500)
        print("\(world): \(result.progress)")
    }

    struct World: Sendable, CustomStringConvertible {
        var elections: Int
        var commands: Int
        var crashes: Int
        var losses: Int?
        var heartbeats = 0
        var isInstant = false
        var isSingle = false
        var asksFirst = false

        var bounds: ExplorationBounds {
            var bounds = ExplorationBounds()
            bounds.elections = elections
            bounds.commands = commands
            bounds.crashes = crashes
            bounds.disturbances = losses
            bounds.heartbeats = heartbeats
            bounds.instantDisk = isInstant
            bounds.singleEntryAppends = isSingle
            bounds.preVote = asksFirst
            return bounds
        }
        var description: String {
            "\(elections) elections, \(commands) commands, \(crashes) crashes"
                + (losses.map { ", \($0) losses or duplicates" } ?? "")
                + (heartbeats > 0 ? ", \(heartbeats) heartbeats" : "")
                + (isInstant ? ", instant disks" : "") + (isSingle ? ", single entries" : "")
                + (asksFirst ? ", pre-vote" : "")
        }
    }

    /// The explorer never goes back to a core it has forked, so a fork that shares or forgets something
    /// would make it see worlds that can't be.
    @Test("a forked core does what the core does that was never forked", arguments: 1...200)
    func forks(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var bounds = ExplorationBounds()
        bounds.preVote = seed % 3 == 0
        bounds.singleEntryAppends = seed % 5 == 0
        bounds.disturbances = seed % 2 == 0 ? 2 : nil
        var forked = try (1...3).map { try ModelPeer(PeerID($0), bounds) }
        let plain = try (1...3).map { try ModelPeer(PeerID($0), bounds) }
        var network: [Message] = []
        for _ in 0..<60 {
            let slot = Int.random(in: 0..<3, using: &random)
            var target = slot
            let input: PeerInput
            switch Int.random(in: 0..<10, using: &random) {
            case 0 where !plain[slot].node.isLeader: input = .campaign
            case 1 where plain[slot].node.isLeader:
                input = .propose(UInt64.random(in: 1...9, using: &random))
            case 2 where plain[slot].node.isLeader: input = .heartbeat
            case 3: input = .crash
            case 4...6 where !plain[slot].pending.isEmpty: input = .write
            default:
                guard !network.isEmpty else { continue }
                let message = network[Int.random(in: 0..<network.count, using: &random)]
                target = Int(message.to.rawValue) - 1
                input = .deliver(message)
            }
            // A fork that goes another way first must leave no mark.
            let other = forked[target].fork()
            _ = try? other.give(other.node.isLeader ? .propose(15) : .campaign)
            let next = forked[target].fork()
            let sent = try next.give(input)
            forked[target] = next
            #expect(try plain[target].give(input) == sent, "seed \(seed)")
            network += sent
            for naming in Naming.all {
                #expect(
                    forked[target].fingerprint(naming) == plain[target].fingerprint(naming))
            }
        }
    }

    @Test("worlds that differ in names alone have one fingerprint")
    func naming() throws {
        let bounds = ExplorationBounds()
        let prints = try (1...3 as ClosedRange<UInt64>).map { id in
            let peer = try ModelPeer(PeerID(id), bounds)
            _ = try peer.give(.campaign)
            return Naming.all.map { peer.fingerprint($0) }
        }
        // Peer 1 unnamed is peer 2 where 1 and 2 have changed names.
        #expect(prints[0][0] == prints[1][2])
        #expect(Set(prints[0]).count == 3)
    }
}

@Suite("Raft's promises, broken on purpose")
struct SafetyRuleTests {
    private let opening = LogCell(term: 1, command: 0)
    private let first = LogCell(term: 1, command: 1)
    private let second = LogCell(term: 2, command: 2)

    private func peer(
        _ log: [LogCell], term: UInt64 = 1, leads: Bool = false, committed: Int = 0,
        durable: [LogCell]? = nil
    ) -> PeerFacts {
        PeerFacts(
            term: term, isLeader: leads, committed: committed, log: log, durable: durable ?? log)
    }

    /// The promise that a state breaks, its peers noted one after another.
    private func broken(_ peers: [PeerFacts]) -> BrokenPromise.Promise? {
        var history = WorldHistory(terms: 3)
        do {
            for (slot, peer) in peers.enumerated() {
                try SafetyRules.note(peer, slot: slot, in: &history)
            }
            try SafetyRules.check(peers, history)
            return nil
        } catch {
            return error.promise
        }
    }

    @Test("a state that keeps them all is no violation")
    func sound() {
        let log = [opening, first]
        #expect(
            broken([
                peer(log, term: 2, leads: true, committed: 2), peer(log, committed: 1),
                peer([opening]),
            ]) == nil)
        // An old leader need not know what was committed after its time.
        #expect(
            broken([
                peer([opening, second], term: 2, leads: true, committed: 2),
                peer([opening, second], term: 2), peer([opening, first], term: 1, leads: true),
            ]) == nil)
    }

    @Test("two leaders of one term")
    func electionSafety() {
        #expect(
            broken([peer([opening], leads: true), peer([opening], leads: true), peer([])])
                == .electionSafety)
    }

    @Test("a peer that leads where another one led before")
    func electedTwice() throws {
        var history = WorldHistory(terms: 3)
        try SafetyRules.note(peer([opening], leads: true), slot: 0, in: &history)
        try SafetyRules.note(peer([opening], leads: true), slot: 0, in: &history)
        #expect(throws: BrokenPromise.self) {
            try SafetyRules.note(peer([opening], leads: true), slot: 2, in: &history)
        }
    }

    @Test("two logs with one entry, and different ones before it")
    func logMatching() {
        #expect(
            broken([
                peer([opening, second]), peer([LogCell(term: 0, command: 7), second]), peer([]),
            ]) == .logMatching)
    }

    @Test("a leader without what was committed before its term")
    func leaderCompleteness() {
        let log = [opening, first]
        #expect(
            broken([
                peer(log, committed: 2), peer(log), peer([opening], term: 3, leads: true),
            ]) == .leaderCompleteness)
    }

    @Test("two entries committed at one index, and a commit past the end of the log")
    func stateMachineSafety() {
        #expect(
            broken([
                peer([opening, first], committed: 2), peer([opening, second], committed: 2),
                peer([]),
            ]) == .stateMachineSafety)
        #expect(broken([peer([opening], committed: 2), peer([]), peer([])]) == .stateMachineSafety)
    }

    @Test("committed, but on one disk only")
    func durability() {
        let log = [opening, first]
        #expect(
            broken([
                peer(log, committed: 2), peer(log, durable: [opening]), peer([opening]),
            ]) == .committedIsDurable)
    }
}
