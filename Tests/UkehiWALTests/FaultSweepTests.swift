// A disk that fails: every call of a run in turn, once or from then on, in each way that it can.
//
// The run fills several segments, says states again, frees segments, ends, and opens the log again.
// Afterwards the disk works, and the power has gone: whatever call it was, the log opens, and holds
// what it acknowledged and nothing else.

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

/// One way in which calls fail.
private enum Fault: CaseIterable {
    case noSpace, ioError, noDescriptor
    /// The first half of what was to be written is there.
    case halfWrittenNoSpace, halfWrittenIOError

    func hits(_ kind: SimulatedOperation.Kind) -> Bool {
        switch self {
        // A sync that fails is an ioError, whatever the reason (UkehiPOSIX).
        case .noSpace: [.create, .write, .writeDurably, .allocate, .rename].contains(kind)
        case .ioError: true
        // Directories stay open (UkehiPOSIX).
        case .noDescriptor: [.open, .create, .list].contains(kind)
        case .halfWrittenNoSpace, .halfWrittenIOError: kind == .write
        }
    }

    var errorKind: FileError.Kind {
        switch self {
        case .noSpace, .halfWrittenNoSpace: .noSpace
        case .noDescriptor: .noDescriptor
        case .ioError, .halfWrittenIOError: .ioFailed
        }
    }

    var errno: Int32 {
        switch self {
        case .noSpace, .halfWrittenNoSpace: 28
        case .ioError, .halfWrittenIOError: 5
        case .noDescriptor: 24
        }
    }
}

/// Lets one call fail, or all from it on.
private final class FaultPlan: Sendable {
    let calls = Mutex(0)
    /// The kind of the call that failed first.
    let failed = Mutex<SimulatedOperation.Kind?>(nil)
    let fault: Fault
    let failing: Int
    let isLasting: Bool

    init(_ fault: Fault, failing: Int, isLasting: Bool) {
        self.fault = fault
        self.failing = failing
        self.isLasting = isLasting
    }

    func install(on fileSystem: SimulatedFileSystem) {
        fileSystem.setFailsHalfway([.halfWrittenNoSpace, .halfWrittenIOError].contains(fault))
        fileSystem.setHook { [self] (operation) throws(FileError) in
            guard fault.hits(operation.kind) else { return }
            let call = calls.withLock { calls in
                calls += 1
                return calls
            }
            guard call == failing || isLasting && call > failing else { return }
            failed.withLock { $0 = $0 ?? operation.kind }
            throw FileError(
                kind: fault.errorKind, operation: "\(operation.kind)", path: operation.path,
                errno: fault.errno)
        }
    }
}

@Suite("Fault sweeps")
struct FaultSweepTests {
    /// What a run was told.
    private struct Outcome {
        /// The index up to which region 1 was acknowledged.
        var last: UInt64 = 0
        var isBornAcknowledged = false
        /// What the log stopped with, or refused to open with.
        var failure: WALError?
        /// The log did something after it had stopped.
        var wentOn = false
    }

    private func workload(_ fileSystem: SimulatedFileSystem) -> Outcome {
        var outcome = Outcome()
        for indexes in [UInt64(1)...13, 14...22] {
            do throws(WALError) {
                let small = try SmallLog(fileSystem, seed: indexes.lowerBound)
                append(indexes, small, &outcome)
                let failure = small.told.failure.withLock { $0 }
                outcome.failure = outcome.failure ?? failure
                if failure != nil {
                    let operations = fileSystem.operations
                    small.pump()
                    small.claim()
                    outcome.wentOn = outcome.wentOn || fileSystem.operations != operations
                }
            } catch {
                outcome.failure = outcome.failure ?? error
            }
            fileSystem.processEnded()
        }
        return outcome
    }

    /// One life of the log; goes on until it stops.
    private func append(
        _ indexes: ClosedRange<UInt64>, _ small: SmallLog, _ outcome: inout Outcome
    ) {
        func isTold(_ ticket: Ticket) -> Bool {
            small.deliveries.contains { $0.ticket >= ticket }
        }
        // The life before may have lost what it did not acknowledge.
        let known = small.recovered.first { $0.region == RegionID(1) }?.lastIndex.rawValue ?? 0
        guard known + 1 <= indexes.upperBound else { return }
        do throws(WALError) {
            for index in (known + 1)...indexes.upperBound {
                let ticket = try small.append(1, from: index, bytes: 3000)
                if isTold(ticket) { outcome.last = index }
                if small.told.failure.withLock({ $0 != nil }) { return }
                guard index % 6 == 0 else { continue }
                var batch = LogBatch()
                batch.birth(region: RegionID(2), payload: "two", hardState: .empty)
                batch.compact(region: RegionID(1), firstIndex: LogIndex(index), term: Term(1))
                let second = try small.log.submit(&batch, lane: 0)
                small.pump()
                if isTold(second) { outcome.isBornAcknowledged = true }
                purging: while true {
                    switch try small.log.purgeStep() {
                    case .removed: continue
                    case .carried: small.pump()
                    case .pinned, .done: break purging
                    }
                }
            }
            small.claim()
        } catch {
            // A refusal for want of space leaves the log as it was; anything else has stopped it.
            if error.code != .diskFull, small.told.failure.withLock({ $0 == nil }) {
                outcome.failure = error
            }
        }
    }

    @Test(
        "whichever call fails, nothing acknowledged is lost, and the restart is clean",
        arguments: Fault.allCases, [false, true])
    private func sweep(fault: Fault, isLasting: Bool) throws {
        let counting = FaultPlan(fault, failing: .max, isLasting: false)
        let sound = SimulatedFileSystem()
        counting.install(on: sound)
        let whole = workload(sound)
        #expect(whole.last == 22 && whole.isBornAcknowledged && whole.failure == nil)
        let calls = counting.calls.withLock { $0 }
        #expect(calls > (fault == .noDescriptor ? 8 : 50))
        var random = SeededRandom(seed: 4)
        var stopped = 0
        var goneOnWithout = 0
        for failing in 1...calls {
            let what: Comment = "call \(failing) failed"
            let fileSystem = SimulatedFileSystem()
            let plan = FaultPlan(fault, failing: failing, isLasting: isLasting)
            plan.install(on: fileSystem)
            let outcome = workload(fileSystem)
            #expect(!outcome.wentOn, what)
            if let failure = outcome.failure {
                stopped += 1
                let wanted: WALError.Code = fault.errorKind == .noSpace ? .diskFull : .ioFailed
                #expect(failure.code == wanted, what)
                #expect(failure.code.exitCode == (wanted == .diskFull ? 22 : 21), what)
                #expect(failure.message.contains("errno \(fault.errno)"), what)
            } else if fault.errorKind == .noDescriptor {
                // Room for the next segment waits until there is one.
                #expect(plan.failed.withLock { $0 } == .create, what)
                goneOnWithout += 1
            } else if fault.errorKind != .noSpace {
                // A footer that cannot be read is done without: the segment itself is read.
                #expect(plan.failed.withLock { $0 } == .read && !isLasting, what)
                goneOnWithout += 1
            }
            // Else preparing ahead may wait, and a frame is tried again.
            fileSystem.setHook(nil)
            fileSystem.setFailsHalfway(false)
            try check(fileSystem.crashed(using: &random), outcome, what)
        }
        switch fault.errorKind {
        case .noSpace: #expect(stopped > 0)
        case .noDescriptor: #expect(stopped > 0 && goneOnWithout > 0)
        default:
            #expect(stopped + goneOnWithout == calls)
            #expect(goneOnWithout < 6)
        }
    }

    private func check(
        _ fileSystem: SimulatedFileSystem, _ outcome: Outcome, _ what: Comment
    ) throws {
        let again = try SmallLog(fileSystem, seed: 77)
        let first = again.recovered.first { $0.region == RegionID(1) }
        let last = first?.lastIndex.rawValue ?? 0
        #expect(last >= outcome.last, what)
        if let first, last >= first.firstIndex.rawValue {
            let entries = try again.log.entries(
                region: RegionID(1), from: first.firstIndex, to: LogIndex(last + 1),
                maxBytes: .max)
            let begin = first.firstIndex.rawValue
            #expect(
                entries
                    == SmallLog.entries(from: begin, count: Int(last - begin + 1), bytes: 3000),
                what)
        }
        let second = again.recovered.first { $0.region == RegionID(2) }
        #expect(second?.birth == "two" || !outcome.isBornAcknowledged, what)
        // And it works.
        try again.append(1, from: last + 1, bytes: 3000)
        #expect(again.deliveries.count == 1, what)
    }
}
