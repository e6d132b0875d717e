// Bytes from the network, all the way into a consensus core: whatever they are, the core refuses them
// with a reason or stays sound.
//
//   sound message ─▶ mutated ─▶ encoded ─▶ frame ─▶ bytes flipped, cut, repeated ─▶ checksum made good
//                                                                                      │
//        leader, follower, candidate, learner … ◀── step ◀── MessageCodec.decode ◀─────┘
//
// HostileMessageTests gives cores unencoded messages, some of which can't come by wire. This is the
// wire's own door. With UKEHI_FUZZ_SEEDS=N it stays open for N seeds more.

import Foundation
import Testing
import UkehiBase
import UkehiNode
import UkehiRaft

@testable import UkehiTransport

@Suite("Encoded messages, forged")
struct EncodedMessageFuzzTests {
    @Test("no bytes stop a core or make it unsound", arguments: 1...8)
    func fuzz(block: UInt64) throws {
        let total = try run(block * 1000..<block * 1000 + 40)
        // Otherwise nothing deep is reached.
        #expect(total.decoded > total.frames / 3)
        #expect(total.stepped > total.decoded / 4)
        #expect(total.undecodable > 100)
        #expect(total.refused > 100)
    }

    @Test("nor in a longer run", .enabled(if: Self.moreSeeds > 0))
    func longer() throws {
        print(try run(1_000_000..<1_000_000 + Self.moreSeeds))
    }

    private static let moreSeeds =
        ProcessInfo.processInfo.environment["UKEHI_FUZZ_SEEDS"].flatMap { UInt64($0) } ?? 0

    private func run(_ seeds: Range<UInt64>) throws -> FuzzedCore.Tally {
        var total = FuzzedCore.Tally()
        for seed in seeds {
            var core = try FuzzedCore(seed: seed)
            try core.becomeSomething()
            for _ in 0..<150 where core.fault == nil { core.receive() }
            if let fault = core.fault { Issue.record("seed \(seed): \(fault)") }
            total.add(core.tally)
        }
        return total
    }
}
