// Leaderships spread over nodes: the rule by itself, nodes that follow it together, and a cluster.

import Testing
import UkehiBase
import UkehiRaft
import UkehiSimulation
import UkehiState

@testable import UkehiNode

@Suite("Leaders are balanced")
struct LeaderBalanceTests {
    private func step(
        _ mine: Int, _ others: [Int], threshold: Double = 0.2
    ) -> (count: Int, to: [NodeID]) {
        var balance = LeaderBalance(threshold: threshold)
        var seats = [NodeID(1): mine]
        for (place, count) in others.enumerated() { seats[NodeID(UInt64(place) + 2)] = count }
        return balance.step(own: NodeID(1), seats: seats)
    }

    @Test("half of the surplus goes, to those with fewest first")
    func half() {
        let move = step(30, [3, 0])
        #expect(move.count == 9 && move.to == [NodeID(3), NodeID(2)])
        #expect(step(3, [1, 1]).count == 1)
        #expect(step(2, [0]).to == [NodeID(2)])
    }

    @Test("within the threshold nothing moves, nor where one seat makes the difference")
    func within() {
        #expect(step(12, [10, 9]).count == 0)
        #expect(step(13, [10, 9]).count == 1)
        #expect(step(1, [0, 0]).count == 0)
        #expect(step(2, [1, 1]).count == 0)
        #expect(step(0, [9, 9]).count == 0)
        #expect(step(5, []).count == 0)
        #expect(step(100, [0, 0], threshold: 0).count == 0)
    }

    @Test("once begun it goes on to a quarter of the threshold")
    func hysteresis() {
        var balance = LeaderBalance(threshold: 0.2)
        func seats(_ mine: Int) -> [NodeID: Int] { [NodeID(1): mine, NodeID(2): 200 - mine] }
        func moves(_ mine: Int) -> Bool {
            balance.step(own: NodeID(1), seats: seats(mine)).count > 0
        }
        #expect(!moves(119) && moves(121) && moves(110) && moves(106) && !moves(105))
        #expect(!moves(110))
    }

    @Test("nodes that all follow it come to rest, balanced, from anywhere", arguments: 1...40)
    func together(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let count = Int(UInt64.random(in: 2...7, using: &random))
        var seats: [NodeID: Int] = [:]
        var balances: [NodeID: LeaderBalance] = [:]
        for number in 1...UInt64(count) {
            seats[NodeID(number)] = Int(
                UInt64.random(in: 0...(seed % 2 == 0 ? 12 : 3000), using: &random))
            balances[NodeID(number)] = LeaderBalance(threshold: 0.2)
        }
        let total = seats.values.reduce(0, +)
        var rounds = 0
        var isMoving = true
        while isMoving, rounds < 100 {
            isMoving = false
            rounds += 1
            // All see the same, and act at once.
            let seen = seats
            for own in seen.keys.sorted() {
                guard var (left, to) = balances[own]?.step(own: own, seats: seen) else { continue }
                var mine = seen
                while left > 0, let taker = to.first {
                    isMoving = true
                    left -= 1
                    seats[own, default: 0] -= 1
                    seats[taker, default: 0] += 1
                    mine[own, default: 0] -= 1
                    mine[taker, default: 0] += 1
                    to = to.filter { LeaderBalance.fits(from: mine[own] ?? 0, to: mine[$0] ?? 0) }
                        .sorted { (mine[$0] ?? 0, $0) < (mine[$1] ?? 0, $1) }
                }
            }
        }
        #expect(seats.values.reduce(0, +) == total)
        #expect(rounds < 60, "\(rounds) rounds: \(seats)")
        let mean = Double(total) / Double(count)
        let most = seats.values.max() ?? 0
        let least = seats.values.min() ?? 0
        #expect(Double(most) <= mean * 1.2 || most - least < 2, "\(seats)")
    }

    @Test("a node that comes back leads its share again")
    func cluster() throws {
        let cluster = TestCluster(nodes: 3, regions: 12, flushesUnasked: true) {
            $0.rebalanceThreshold = 0.2
        }
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        // What it led is led by the others then, and it comes back without any.
        cluster.crash(2, seed: 1)
        cluster.pass(milliseconds: 5000)
        try cluster.start(2)
        cluster.pass(milliseconds: 10_000)
        let counts = try cluster.members.map { member in
            try #require(member.core).lanes.reduce(0) { sum, lane in
                sum + lane.orderedRegions.filter { $0.isLeader && !$0.descriptor.isSystem }.count
            }
        }
        #expect(
            counts.reduce(0, +) == 12 && counts.allSatisfy { (3...5).contains($0) }, "\(counts)")
        #expect(cluster.failures.isEmpty)
    }
}

@Suite("Load is shared")
struct SharedLoadTests {
    private func step(
        _ mine: Double, _ others: [Double], threshold: Double = 0.2
    ) -> (operations: Double, to: [NodeID]) {
        var balance = LeaderBalance(threshold: threshold)
        var loads = [NodeID(1): mine]
        for (place, load) in others.enumerated() { loads[NodeID(UInt64(place) + 2)] = load }
        return balance.step(own: NodeID(1), loads: loads, least: 100)
    }

    @Test("what is over the mean goes, to those below it, the idlest first")
    func surplus() {
        let move = step(900, [300, 0])
        #expect(move.operations == 500 && move.to == [NodeID(3), NodeID(2)])
        #expect(step(900, [0, 900]).to == [NodeID(2)])
    }

    @Test("within the threshold, or where there is little to do, nothing goes")
    func within() {
        #expect(step(1190, [1000, 810]).operations == 0)
        #expect(step(1210, [1000, 790]).operations > 0)
        #expect(step(99, [0, 0]).operations == 0)
        #expect(step(500, []).operations == 0)
        #expect(step(900, [0, 0], threshold: 0).operations == 0)
    }

    @Test("once begun it goes on to a quarter of the threshold")
    func hysteresis() {
        var balance = LeaderBalance(threshold: 0.2)
        func shares(_ mine: Double) -> Bool {
            let loads = [NodeID(1): mine, NodeID(2): 2000 - mine]
            return balance.step(own: NodeID(1), loads: loads, least: 1).operations > 0
        }
        #expect(!shares(1190) && shares(1210) && shares(1060) && !shares(1050) && !shares(1190))
    }

    @Test("of a node that leads all that is busy the busiest regions go that fit, and come to rest")
    func cluster() throws {
        let cluster = TestCluster(nodes: 3, regions: 6, flushesUnasked: true) {
            $0.rebalanceThreshold = 0.2
            $0.leastSharedLoad = 5
        }
        try cluster.startAll()
        cluster.pass(milliseconds: 6000)
        let keys = (0..<6).compactMap { number -> Bytes? in
            let range = StaticRanges.ranges(count: 6)[number]
            return range.lower.isEmpty ? "\u{1}" : range.lower
        }
        func leaders() -> [Int] { keys.compactMap { cluster.leader(of: $0) } }
        // The regions that one node leads are written to, the others are not.
        let first = try #require(leaders().first)
        let busy = keys.filter { cluster.leader(of: $0) == first }
        #expect(busy.count >= 2)
        for _ in 0..<120 {
            for key in busy { _ = try cluster.write(.put(key: key, value: "v")) }
            cluster.pass(milliseconds: 100)
        }
        let now = busy.compactMap { cluster.leader(of: $0) }
        #expect(now.count == busy.count && Set(now).count >= 2, "\(now)")
        #expect(Set(leaders()).count == 3, "\(leaders())")
        #expect(cluster.failures.isEmpty)
    }
}
