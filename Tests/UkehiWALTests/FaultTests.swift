// A disk that fails: every operation of a run in turn, once or from then on.

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Faults")
struct FaultTests {
    /// A run over several segments, with a purge. Returns the index up to which region 1 was
    /// acknowledged, and the error that the log stopped with.
    private func workload(_ fileSystem: SimulatedFileSystem) -> (last: UInt64, failure: WALError?) {
        var last: UInt64 = 0
        do throws(WALError) {
            let small = try SmallLog(fileSystem)
            for index in UInt64(1)...24 {
                let ticket = try small.append(1, from: index, bytes: 3000)
                let told = small.deliveries.contains { $0.ticket >= ticket }
                if told { last = index }
                if let failure = small.told.failure.withLock({ $0 }) { return (last, failure) }
                if index % 8 == 0 {
                    var batch = LogBatch()
                    batch.compact(
                        region: RegionID(1), firstIndex: LogIndex(index), term: Term(1))
                    _ = try small.log.submit(&batch, lane: 0)
                    small.pump()
                    while case .removed = try small.log.purgeStep() {}
                }
            }
            small.claim()
            return (last, small.told.failure.withLock { $0 })
        } catch {
            return (last, error)
        }
    }

    @Test(
        "whichever operation fails, nothing acknowledged is lost and the restart is clean",
        arguments: [FileError.Kind.ioFailed, .noSpace], [false, true])
    func sweep(kind: FileError.Kind, forever: Bool) throws {
        let sound = SimulatedFileSystem()
        let (whole, failure) = workload(sound)
        #expect(whole == 24)
        #expect(failure == nil)
        var random = SeededRandom(seed: 4)
        var failures = 0
        for ordinal in 1...sound.operations {
            let fileSystem = SimulatedFileSystem()
            fileSystem.setHook { (operation) throws(FileError) in
                guard operation.ordinal >= ordinal, forever || operation.ordinal == ordinal,
                    ![.open, .read, .list].contains(operation.kind)
                else { return }
                throw FileError(kind: kind, operation: "\(operation.kind)", path: operation.path)
            }
            let (last, failure) = workload(fileSystem)
            if let failure {
                failures += 1
                #expect([.ioFailed, .diskFull, .failed].contains(failure.code), "at \(ordinal)")
            } else {
                // Only preparing ahead may fail without harm: for want of space.
                #expect(kind == .noSpace)
            }
            fileSystem.setHook(nil)
            let again = try SmallLog(fileSystem.crashed(using: &random), seed: 2)
            let found = again.recovered.first { $0.region == RegionID(1) }?.lastIndex ?? .zero
            #expect(found.rawValue >= last, "operation \(ordinal) failed")
        }
        #expect(failures > sound.operations / 2)
    }

    @Test("a failed write is never tried again")
    func noRetry() throws {
        let fileSystem = SimulatedFileSystem()
        let small = try SmallLog(fileSystem)
        try small.append(1, from: 1)
        let last = fileSystem.operations
        fileSystem.setHook { (operation) throws(FileError) in
            if operation.ordinal == last + 2 {
                throw FileError(
                    kind: .ioFailed, operation: "\(operation.kind)", path: operation.path)
            }
        }
        try small.submit(1, from: 2)
        small.pump()
        let after = fileSystem.operations
        #expect(small.told.failure.withLock { $0 }?.code == .ioFailed)
        small.pump()
        small.claim()
        #expect(fileSystem.operations == after)
        #expect(small.told.failure.withLock { $0 }?.code.exitCode == 21)
    }

    @Test("a full disk refuses new batches only when the prepared room is used up")
    func fullDisk() throws {
        let fileSystem = SimulatedFileSystem()
        var options = SmallLog.options
        options.maxQueueBytes = 20_000
        let small = try SmallLog(fileSystem, options: options)
        fileSystem.setHook { (operation) throws(FileError) in
            if operation.kind == .allocate {
                throw FileError(kind: .noSpace, operation: "fallocate", path: operation.path)
            }
        }
        var refused: WALError?
        var index: UInt64 = 0
        while refused == nil, index < 50 {
            index += 1
            do throws(WALError) {
                try small.submit(1, from: index, bytes: 3000)
                small.pump()
            } catch {
                refused = error
            }
        }
        #expect(refused?.code == .diskFull)
        #expect(index > 6)
        #expect(small.told.failure.withLock { $0 } == nil)
        fileSystem.setHook(nil)
        small.pump()
        try small.append(1, from: index)
        #expect(small.deliveries.last?.ticket == index)
    }
}
