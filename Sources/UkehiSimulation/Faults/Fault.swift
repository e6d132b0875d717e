// What goes wrong, as data: a schedule drawn from the seed before anything runs, so that parts of it
// can be left out when a failure is made smaller.

import UkehiBase

/// The kinds of fault.
package enum FaultKind: String, CaseIterable, Sendable, Hashable {
    case kill
    case powerCut = "power-cut"
    /// All nodes lose power at one instant.
    case blackout
    /// A power cut at the worst moments: when the node is elected, or at its next operation of some
    /// kind on its disk; back soon.
    case crashAtWork = "crash-at-work"
    case pause
    case slowDisk = "slow-disk"
    case stalledDisk = "stalled-disk"
    /// A write or sync fails; the process ends by itself.
    case failedWrite = "failed-write"
    /// A sync fails, and what it was to make durable may be lost although it can be read.
    case failedSync = "failed-sync"
    /// A read fails, mostly while the node starts.
    case failedRead = "failed-read"
    /// Nothing new can be reserved for a while.
    case diskFull = "disk-full"
    /// A write itself finds no space.
    case fullAtWrite = "full-at-write"
    /// Bytes of a log change, running or not; only on a minority of disks.
    case corruption
    /// A sector is written where another belongs; only on a minority of disks.
    case misdirection
    /// As the two before, on any disk and in any file: the last good copy goes, too. Only in the scenario
    /// `rot`, where nodes must refuse rather than lie.
    case rot
    case loss
    case duplication
    /// Some messages arrive up to seconds later; those behind them overtake them or wait.
    case delay
    case isolation
    /// Whoever leads some region now is cut off.
    case isolatedLeader = "isolated-leader"
    case oneWay = "one-way"
    case split
    case ring
    case bridge
    case flapping
    /// A node's links are slow.
    case slowNode = "slow-node"
    /// A node's threads are slow.
    case slowProcess = "slow-process"
    /// The wall clock jumps by up to an hour; sometimes the monotonic one goes ahead, as by a suspend.
    case clockJump = "clock-jump"
    case clockDrift = "clock-drift"
    /// A process is killed at its next write, comes back at once on what it left in the page cache, and
    /// loses its power soon after.
    case killThenCut = "kill-then-cut"
    /// Whoever leads some region now is cut off, but what was sent to it just before goes on arriving.
    case lateAnswers = "late-answers"
    /// Bytes of entries change, running or not, and nothing else does; only on a minority of disks.
    case rottenEntries = "rotten-entries"
    /// A state store takes no writes for a while, as one that has fallen behind with its compaction; what
    /// is committed waits to be applied.
    case stalledStore = "stalled-store"
}

/// One fault of a schedule.
package struct Fault: Sendable, Hashable, CustomStringConvertible {
    /// Its place in the whole schedule; stays when others are left out.
    package var number: Int
    package var kind: FaultKind
    /// Simulated time, nanoseconds.
    package var at: UInt64
    package var duration: UInt64
    package var node: Int
    /// Decides what is left open: which sectors, which side of a partition.
    package var seed: UInt64

    package var description: String {
        "#\(number) at \(at / 1_000_000) ms: \(kind.rawValue) of node-\(node + 1) for "
            + "\(duration / 1_000_000) ms"
    }
}

/// All faults of one simulation, ascending by time.
package struct FaultSchedule: Sendable {
    package var faults: [Fault]

    package init(faults: [Fault]) { self.faults = faults }

    /// Draws faults for `nanoseconds` of simulated time.
    package init(seed: UInt64, options: SwarmOptions, nanoseconds: UInt64) {
        var random = SeededRandom(seed: seed ^ 0x4641_554c_54)
        faults = []
        guard !options.faultKinds.isEmpty else { return }
        // The cluster gets the time to come into being undisturbed in most simulations.
        var at: UInt64 = random.oneIn(4) ? 0 : 3_000_000_000
        while true {
            at += random.next() % (2 * options.faultEveryMilliseconds * 1_000_000)
            guard at < nanoseconds else { return }
            let kind = options.faultKinds[Int(random.next() % UInt64(options.faultKinds.count))]
            // Mostly short against an election, sometimes long.
            let reach: UInt64 = random.oneIn(3) ? 5_000_000_000 : 800_000_000
            faults.append(
                Fault(
                    number: faults.count, kind: kind, at: at,
                    duration: 5_000_000 + random.next() % reach,
                    node: Int(random.next() % UInt64(options.nodes)), seed: random.next()))
        }
    }

    /// Only the faults of these numbers.
    package func keeping(_ numbers: Set<Int>) -> FaultSchedule {
        var kept = self
        kept.faults.removeAll { !numbers.contains($0.number) }
        return kept
    }
}
