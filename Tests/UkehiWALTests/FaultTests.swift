// What the log does when its disk fails or is full; FaultSweepTests.swift lets every operation fail.

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Faults")
struct FaultTests {
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

    @Test("a frame that finds the volume full is written once more, and no more than that")
    func fullAtFrame() throws {
        for failures in 1...3 {
            let fileSystem = SimulatedFileSystem()
            let small = try SmallLog(fileSystem)
            try small.append(1, from: 1)
            let first = fileSystem.operations + 1
            let written = Mutex<[SimulatedOperation.Kind]>([])
            fileSystem.setHook { (operation) throws(FileError) in
                written.withLock { $0.append(operation.kind) }
                guard operation.ordinal < first + failures else { return }
                // The second attempt's sync fails for the cache's sake, not the volume's.
                let isSync = operation.kind == .sync
                throw FileError(
                    kind: isSync ? .ioFailed : .noSpace, operation: "\(operation.kind)",
                    path: operation.path)
            }
            try small.submit(1, from: 2)
            try small.submit(1, from: 3)
            small.pump()
            let failure = small.told.failure.withLock { $0 }
            if failures == 1 {
                #expect(failure == nil)
                #expect(written.withLock { Array($0.prefix(3)) } == [.write, .write, .sync])
                #expect(small.log.statistics.framesWrittenTwice == 1)
                #expect(small.deliveries.last?.ticket == 3)
            } else {
                #expect(failure?.code == .diskFull)
                #expect(failure?.code.exitCode == 22)
                #expect(written.withLock { $0 } == [.write, .write])
                #expect(small.deliveries.last?.ticket == 1)
            }
            fileSystem.setHook(nil)
            var random = SeededRandom(seed: 1)
            let again = try SmallLog(fileSystem.crashed(using: &random), seed: 2)
            let last = again.recovered.first?.lastIndex ?? .zero
            #expect(last >= LogIndex(failures == 1 ? 3 : 1))
        }
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
        #expect(index == 7)
        #expect(small.told.failure.withLock { $0 } == nil)
        // What was taken is durable: nobody waits for room that only a person can make. No file takes what
        // is left of it.
        #expect(small.log.isDurable(index - 1))
        #expect(!fileSystem.exists(SmallLog.path(LogNames.next)))
        for _ in 0..<3 {
            if case .carried = try small.log.purgeStep() {
                Issue.record("what has no room is said again")
            }
        }
        fileSystem.setHook(nil)
        small.pump()
        try small.append(1, from: index)
        #expect(small.deliveries.last?.ticket == index)
    }
}
