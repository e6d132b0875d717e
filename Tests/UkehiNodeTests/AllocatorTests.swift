import Synchronization
import Testing
import UkehiBase

@testable import UkehiNode

/// RULES 17: ids come from one sequence, and none is ever given out twice.
@Suite("The allocator of ids")
struct AllocatorTests {
    @Test("nodes that ask get runs of ids that nobody else gets, whoever leads")
    func runs() throws {
        let cluster = TestCluster(nodes: 3)
        try cluster.startAll()
        cluster.pass(milliseconds: 5000)
        let taken = Mutex<[UInt64]>([])
        let counts = [1, 3, Limits.maxIDsPerRequest]
        for member in cluster.members {
            for count in counts {
                member.core?.allocate(count, outOf: TestCluster.id) { first in
                    guard let first else { return }
                    taken.withLock { $0 += (0..<UInt64(count)).map { first + $0 } }
                }
            }
        }
        cluster.settle()
        let ids = taken.withLock { $0 }
        #expect(ids.count == 3 * counts.reduce(0, +))
        #expect(Set(ids).count == ids.count)
        let known = cluster.members[0].core?.state.withLock { $0.identity.record?.nextID } ?? 0
        #expect(ids.allSatisfy { $0 >= known })
    }

    @Test("what is in reserve is taken at once, and more is asked for before it is gone")
    func reserve() throws {
        let cluster = TestCluster(nodes: 3)
        try cluster.startAll()
        cluster.pass(milliseconds: 5000)
        let follower = try #require(cluster.members.first { !($0.core?.isLeader ?? true) }?.core)
        let taken = Mutex<[Range<UInt64>]>([])
        func take(_ count: Int, _ region: RegionID? = TestCluster.id) {
            follower.allocate(count, outOf: region) { first in
                guard let first else { return }
                taken.withLock { $0.append(first..<first + UInt64(count)) }
            }
        }
        func reserved() -> Int { follower.state.withLock { $0.ids.count } }
        take(17)
        #expect(taken.withLock { $0.isEmpty })
        cluster.settle()
        #expect(taken.withLock { $0.count } == 1)
        #expect(reserved() == Limits.idsInReserve)

        // Nobody else is asked.
        cluster.network.drops = { _ in true }
        for _ in 0..<10 { take(17) }
        #expect(taken.withLock { $0.count } == 11)
        #expect(reserved() == Limits.idsInReserve - 170)
        cluster.network.drops = { _ in false }
        take(100)
        #expect(reserved() < Limits.idsInReserve / 2 && follower.state.withLock { $0.ids.isAsked })
        cluster.settle()
        #expect(reserved() == Limits.idsInReserve)
        #expect(!follower.state.withLock { $0.ids.isAsked })
        // More than there is.
        take(Limits.maxIDsPerRequest)
        cluster.settle()
        // What comes later is above all that was given before, be it used or not.
        take(1, nil)
        #expect(taken.withLock { $0.count } == 13)
        cluster.settle()
        let above = try #require(taken.withLock { $0.last }).lowerBound
        take(17)
        #expect(try #require(taken.withLock { $0.last }).upperBound < above)
        take(17, RegionID(above))
        cluster.settle()
        #expect(try #require(taken.withLock { $0.last }).lowerBound > above)
        let runs = taken.withLock { $0 }.sorted { $0.lowerBound < $1.lowerBound }
        #expect(runs.count == 16)
        #expect(zip(runs, runs.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound })
    }

    @Test("a reserve of before a recovery is used by nobody")
    func generations() {
        var reserve = IDReserve()
        func take(_ count: Int, above region: UInt64 = 2, generation: UInt64) -> UInt64? {
            reserve.take(count, above: RegionID(region), generation: generation)
        }
        #expect(take(1, generation: 0) == nil)
        reserve.fill(100..<110, generation: 3)
        #expect(take(4, generation: 3) == 100)
        #expect(take(1, generation: 4) == nil)
        #expect(take(7, generation: 3) == nil)
        // What comes out of a region is above it.
        #expect(
            take(1, above: 104, generation: 3) == nil && take(1, above: 103, generation: 3) == 104)
        // Late, of the lost allocator; late; newer.
        reserve.fill(200..<300, generation: 2)
        reserve.fill(80..<100, generation: 3)
        #expect(take(1, generation: 3) == 105)
        reserve.fill(400..<402, generation: 3)
        #expect(take(2, generation: 3) == 400 && reserve.count == 0)
        reserve.fill(50..<60, generation: 4)
        #expect(take(10, generation: 4) == 50)
    }
}
