// What a power cut may leave, at every operation of a run, each state once.
//
//   before each write, sync and name operation, and after each acknowledgement
//     -> several subsets of what is pending, torn at 512 and at 4096 bytes, with zeros and junk
//     -> those never seen before, by their bytes
//     -> opened: every acknowledged batch is there, and nothing that was never the state
//
// The run itself: writes of several frames in flight that end in any order, rotations, purges, and
// restarts, whose own operations count, too. All of it follows from the seed.

import Glibc
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

/// Looks at the states of one run.
///
/// Safety: the harness and its disk are driven by one thread, and call this on it.
private final class CrashStates: @unchecked Sendable {
    private let harness: CrashHarness
    private var random: SeededRandom
    private let wanted: Int
    private var seen: Set<UInt64> = []
    private(set) var points = 0
    private(set) var failure: (any Error)?

    /// So many at each point and tear, of which most are new while much is pending.
    private static let drawsPerPoint = 3

    var count: Int { seen.count }
    var isDone: Bool { failure != nil || seen.count >= wanted }

    init(_ harness: CrashHarness, seed: UInt64, wanted: Int) {
        self.harness = harness
        self.wanted = wanted
        random = SeededRandom(seed: seed)
    }

    /// Runs until enough states were seen, or something was wrong with one.
    func run(maxSteps: Int = 4000) throws {
        for step in 1...maxSteps where !isDone {
            let disk = harness.fileSystem
            disk.setHook { [self] (operation) throws(FileError) in
                if ![.open, .read, .list].contains(operation.kind) { visit() }
            }
            if step % 150 == 0 { try harness.kill() } else { try harness.step(cuts: false) }
            // Acknowledged by what has just ended, with nothing after it begun.
            disk.setHook(nil)
            visit()
        }
        if let failure { throw failure }
    }

    private func visit() {
        points += 1
        for tear in [512, 4096] {
            harness.fileSystem.setTearBytes(tear)
            for _ in 0..<Self.drawsPerPoint where !isDone {
                let left = harness.fileSystem.crashed(using: &random)
                guard seen.insert(Self.digest(left)).inserted else { continue }
                do {
                    try harness.recover(left, seed: UInt64(points))
                } catch {
                    failure = error
                }
            }
        }
    }

    /// Of names and contents.
    private static func digest(_ disk: SimulatedFileSystem) -> UInt64 {
        var low = CRC32C()
        var high = CRC32C()
        for name in (try? disk.list(CrashHarness.directory)) ?? [] {
            let bytes = disk.contents(CrashHarness.directory + "/" + name) ?? []
            let text = Array("\(name) \(bytes.count) ".utf8)
            text.withUnsafeBytes {
                low.update($0)
                high.update($0)
            }
            bytes.withUnsafeBytes { raw in
                low.update(raw)
                // Its blocks in another order, so that the two do not agree by the same chance.
                for start in stride(from: bytes.count / 4096 * 4096, through: 0, by: -4096) {
                    high.update(.init(rebasing: raw[start..<min(start + 4096, raw.count)]))
                }
            }
        }
        return UInt64(high.value) << 32 | UInt64(low.value)
    }
}

@Suite("Crash states")
struct CrashStateTests {
    @Test(
        "no state that a power cut may leave lacks what was acknowledged", arguments: UInt64(1)...5)
    func states(seed: UInt64) throws {
        let harness = try CrashHarness(seed: seed)
        let states = CrashStates(harness, seed: seed, wanted: 500)
        try states.run()
        #expect(states.count == 500)
        #expect(states.points > 50)
    }

    /// `UKEHI_CRASH_STATES=50000 swift test --filter CrashStateTests`.
    @Test("many more states", .enabled(if: statesAskedFor > 0))
    func more() throws {
        var count = 0
        var seed: UInt64 = 1000
        while count < statesAskedFor {
            let states = CrashStates(try CrashHarness(seed: seed), seed: seed, wanted: 2000)
            do {
                try states.run()
            } catch {
                Issue.record("seed \(seed): \(error)")
                return
            }
            count += states.count
            seed += 1
        }
        print("\(count) crash states of \(seed - 1000) runs")
    }

    @Test("the same seed meets the same states")
    func determinism() throws {
        let runs = try (0..<2).map { _ in
            let harness = try CrashHarness(seed: 77)
            let states = CrashStates(harness, seed: 1, wanted: 60)
            try states.run()
            return [states.points, states.count, harness.fileSystem.operations]
        }
        #expect(runs[0] == runs[1])
    }

    /// Canaries: if one of these is not found, the tests above show nothing.
    @Test(
        "dropped syncs are found out",
        arguments: [SimulatedOperation.Kind.writeDurably, .syncDirectory])
    func droppedSyncs(kind: SimulatedOperation.Kind) throws {
        var found = 0
        for seed in UInt64(1)...3 {
            let harness = try CrashHarness(seed: seed)
            harness.fileSystem.setLies([kind])
            let states = CrashStates(harness, seed: seed, wanted: 3000)
            do { try states.run() } catch { found += 1 }
        }
        #expect(found == 3)
    }

    @Test("rot in the last acknowledged frame of a log at rest is corruption, never a torn tail")
    func rotAtRest() throws {
        let small = try SmallLog()
        for index in UInt64(1)...3 { try small.append(1, from: index, bytes: 500) }
        let frame = SegmentFormat.firstFrameOffset + 2 * FrameFormat.blockBytes
        let used = 80 + 80 + 516
        let path = SmallLog.path(small.segmentNames[0])
        let bytes = small.fileSystem.contents(path) ?? []
        func recovers(_ disk: SimulatedFileSystem, at offset: Int) -> (LogIndex?, WALError?) {
            let damaged = disk.copy()
            damaged.damage(path, at: offset, with: [bytes[offset] ^ 0x10])
            do throws(WALError) {
                return (try SmallLog(damaged, seed: 2).recovered.first?.lastIndex, nil)
            } catch {
                return (nil, error)
            }
        }
        // While nothing claims it, it might have been in flight: this is what the claim is for.
        #expect(recovers(small.fileSystem, at: frame).0 == LogIndex(2))
        small.claim()
        for offset in stride(from: frame, to: frame + used, by: 3) {
            let (last, error) = recovers(small.fileSystem, at: offset)
            #expect(last == nil, "byte \(offset - frame)")
            #expect(error?.code == .corrupted)
            #expect(error?.position == LogPosition(segment: 1, offset: UInt64(frame)))
        }
    }
}

private let statesAskedFor = getenv("UKEHI_CRASH_STATES").flatMap { Int(String(cString: $0)) } ?? 0
