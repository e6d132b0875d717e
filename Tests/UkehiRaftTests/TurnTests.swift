// Who campaigns when after a leader is gone: in turns, so that votes are not split.

import Testing
import UkehiBase

@testable import UkehiRaft

@Suite("Campaigns in turn")
struct TurnTests {
    /// What it took to replace leaders.
    struct Failovers {
        /// Terms that nobody led.
        var lostTerms: UInt64 = 0
        var mostTicks = 0
        var leaders: Set<PeerID> = []
    }

    /// Leaders are cut off one after the other. Messages take no time; clocks tick one after the other, and
    /// may be one tick apart.
    static func failovers(
        _ count: Int, voters: Int, inTurn: Bool,
        between: (RaftCluster) throws -> Void = { _ in }
    ) throws -> Failovers {
        let cluster = try RaftCluster(voters: (1...UInt64(voters)).map { $0 }) {
            $0.preVote = true
            $0.checkQuorum = true
            $0.leadOnlyWithDurableVote = true
            $0.electionJitterTicks = 7
            $0.campaignsInTurn = inTurn
        }
        var result = Failovers()
        var leader: UInt64 = 1
        try cluster.elect(1)
        var phase: UInt64 = 88_172_645_463_325_252
        for _ in 0..<count {
            try between(cluster)
            try cluster.settle()
            let term = cluster[leader].term
            let left = (1...UInt64(voters)).filter { $0 != leader }
            for id in left {
                phase ^= phase << 13
                phase ^= phase >> 7
                phase ^= phase << 17
                cluster.tick(id, Int(phase >> 32 & 1))
            }
            var ticks = 0
            var next: UInt64?
            while next == nil, ticks < 200 {
                ticks += 1
                for id in left { cluster.tick(id) }
                try cluster.settle(left)
                next = left.first { cluster[$0].isLeader }
            }
            leader = try #require(next)
            result.leaders.insert(PeerID(leader))
            result.lostTerms += cluster[leader].term.rawValue - term.rawValue - 1
            result.mostTicks = max(result.mostTicks, ticks)
            // The old one is back, and follows.
            cluster.tick(leader)
            try cluster.settle()
            #expect(cluster.peers.allSatisfy { $0.leader == PeerID(leader) })
        }
        return result
    }

    @Test("without a leader two voters never begin at once", arguments: [3, 4, 5, 6])
    func noSplitVotes(voters: Int) throws {
        let inTurn = try Self.failovers(200, voters: voters, inTurn: true)
        // Where slots are one tick apart, clocks that are, too, can still meet.
        if voters == 3 { #expect(inTurn.lostTerms == 0) }
        // At random some do, and it costs a second election timeout.
        let atRandom = try Self.failovers(200, voters: voters, inTurn: false)
        #expect(atRandom.lostTerms > 10)
        #expect(inTurn.lostTerms < atRandom.lostTerms / 2)
        #expect(atRandom.mostTicks > 20)
        // Everybody has the first turn in some terms.
        #expect(inTurn.leaders.count == voters)
    }

    @Test("of three the second one's turn is over before the jitter would be")
    func bound() throws {
        #expect(try Self.failovers(200, voters: 3, inTurn: true).mostTicks <= 12)
    }

    @Test("who cannot win in its turn leaves the next one's to it")
    func staleFirst() throws {
        let result = try Self.failovers(60, voters: 3, inTurn: true) { cluster in
            // One follower, another one each time, lacks the newest entry.
            let leader = try #require(cluster.peers.first { $0.isLeader })
            let behind = leader.id.rawValue % 3 + 1
            try cluster.propose("entry", at: leader.id.rawValue)
            try cluster.settle((1...3).filter { $0 != behind })
            cluster.drop { $0.to.rawValue == behind }
            #expect(cluster[behind].lastIndex < leader.lastIndex)
        }
        #expect(result.lostTerms == 0)
        #expect(result.mostTicks <= 13)
    }

    /// Ticks until a leader's successor is there, where `id` may not campaign: it has not applied a change of
    /// members.
    private static func ticksBesideOneThatMayNot(_ id: UInt64, term: UInt64) throws -> Int {
        let cluster = try RaftCluster(voters: [1, 2, 3], extra: 1) {
            $0.preVote = true
            $0.checkQuorum = true
            $0.leadOnlyWithDurableVote = true
            $0.electionJitterTicks = 7
            $0.campaignsInTurn = true
        }
        for peer in [1, 2, 3] as [UInt64] { try cluster.setLog(of: peer, terms: [1], term: term) }
        try cluster.elect(1)
        func settle(_ ids: [UInt64]) throws {
            var isBusy = true
            while isBusy {
                for peer in ids where peer != id { try cluster.work(cluster[peer]) }
                if ids.contains(id) {
                    cluster.collect(cluster[id])
                    while !cluster[id].appends.isEmpty { try cluster.write(cluster[id]) }
                }
                let messages = cluster.take { _ in true }.filter {
                    ids.contains($0.from.rawValue) && ids.contains($0.to.rawValue)
                }
                for message in messages { cluster.deliver(message) }
                isBusy = !messages.isEmpty
            }
        }
        let change = ConfigurationChange([.init(.addLearner, PeerID(4))])
        _ = try cluster[1].raft.proposeConfChange(change)
        try settle([1, 2, 3])
        cluster.tick(1)
        try settle([1, 2, 3])
        #expect(cluster[id].applied < cluster[id].committed)
        let other = 5 - id
        for ticks in 1...200 {
            for peer in [2, 3] as [UInt64] { cluster.tick(peer) }
            try settle([2, 3])
            if cluster[other].isLeader { return ticks }
        }
        return .max
    }

    @Test("who may not campaign in its turn does not hold up the next one")
    func barredFirst() throws {
        var first = 0
        for term in 1...40 as ClosedRange<UInt64> {
            for id in [2, 3] as [UInt64] {
                let ticks = try Self.ticksBesideOneThatMayNot(id, term: term)
                #expect(ticks <= 14)
                if ticks > 12 { first += 1 }
            }
        }
        // The one that may had the second turn in some of them.
        #expect(first > 10)
    }
}
