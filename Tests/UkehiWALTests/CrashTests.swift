// Power cuts at any point of random workloads.

import Glibc
import Testing
import UkehiSimulation

@testable import UkehiWAL

@Suite("Crashes")
struct CrashTests {
    @Test("what was acknowledged survives any power cut", arguments: UInt64(1)...40)
    func acknowledgedSurvives(seed: UInt64) throws {
        let harness = try CrashHarness(seed: seed)
        try harness.run(steps: 1500)
        #expect(harness.crashes > 5)
    }

    /// Long runs: `UKEHI_WAL_SEEDS=1000-3000 swift test --filter furtherSeeds`.
    @Test("further seeds", .enabled(if: !seedsAskedFor.isEmpty))
    func furtherSeeds() throws {
        for seed in seedsAskedFor {
            do {
                try CrashHarness(seed: seed).run(steps: 1500)
            } catch {
                Issue.record("seed \(seed): \(error)")
            }
        }
    }

    @Test("the workload reaches what it is meant to reach")
    func reach() throws {
        var inFlight = 0
        var removed = 0
        var carries = 0
        var rewrites: UInt64 = 0
        var (refusals, short, starved) = (0, 0, 0)
        var cut = 0
        var claims = 0
        var rotations: UInt64 = 0
        var lost = 0
        var footers: UInt64 = 0
        var scrubbedBytes: UInt64 = 0
        for seed in UInt64(100)..<130 {
            let harness = try CrashHarness(seed: seed)
            try harness.run(steps: 1500)
            inFlight = max(inFlight, harness.mostInFlight)
            removed += harness.removedSegments
            carries += harness.carries
            rewrites += harness.rewrites
            cut += harness.cutRecoveries
            refusals += harness.refusals
            short += harness.shortSegments
            starved += harness.starved
            claims += harness.claims
            rotations += harness.rotations
            lost += harness.lostBatches
            footers += harness.footers
            scrubbedBytes += harness.scrubbedBytes
        }
        #expect(inFlight >= 4)
        #expect(removed > 20)
        #expect(carries > 20)
        #expect(rewrites > 50)
        #expect(refusals > 500 && short > 50)
        // Of segments so small a reserve is soon used up.
        #expect(starved < short / 4)
        #expect(cut > 20)
        #expect(claims > 10)
        #expect(rotations > 20)
        #expect(lost > 20)
        #expect(footers > 20)
        #expect(scrubbedBytes > 1 << 20)
    }

    /// A net with a hole catches nothing: the same runs on a disk that lies must fail.
    @Test(
        "a disk that lies about durability is found out",
        arguments: [SimulatedOperation.Kind.writeDurably, .syncDirectory])
    func liesAreFound(kind: SimulatedOperation.Kind) throws {
        var found = 0
        for seed in UInt64(200)..<210 {
            let harness = try CrashHarness(seed: seed)
            harness.fileSystem.setLies([kind])
            do { try harness.run(steps: 1500) } catch { found += 1 }
        }
        #expect(found == 10)
    }
}

private let seedsAskedFor: Range<UInt64> = {
    let bounds = getenv("UKEHI_WAL_SEEDS").map { String(cString: $0).split(separator: "-") }
    guard let bounds, bounds.count == 2, let low = UInt64(bounds[0]),
        let high = UInt64(bounds[1]), low < high
    else { return 0..<0 }
    return low..<high
}()
