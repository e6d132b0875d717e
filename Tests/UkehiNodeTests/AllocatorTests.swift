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
                member.core?.allocate(count) { first in
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
}
