// Frames that are compressed by a thread of their own: the same bytes, the same errors, bounded memory.

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiPOSIX
import UkehiState
import _UkehiTestSupport

/// A thread that tells how much was waiting for it at most.
private final class CountingWorker: Worker {
    private let worker = ThreadWorker(name: "test-compress")
    private let state = Mutex((pending: 0, most: 0))

    var most: Int { state.withLock { $0.most } }

    func run(_ work: @escaping @Sendable () -> Void) {
        state.withLock {
            $0.pending += 1
            $0.most = max($0.most, $0.pending)
        }
        worker.run { [self] in
            work()
            state.withLock { $0.pending -= 1 }
        }
    }
    func stop() { worker.stop() }
}

@Suite("Snapshots: compressed on another thread")
struct SnapshotPipelineTests {
    private static func options(_ worker: (any Worker)?) -> SnapshotOptions {
        var options = SnapshotOptions(compressingWorker: worker)
        options.frameBytes = 4096
        return options
    }

    @Test("the bytes are those of one thread, and a few frames wait at most")
    func sameBytes() throws {
        let pairs = Sample.pairs(3000)
        let worker = CountingWorker()
        defer { worker.stop() }
        let target = MemoryFile()
        let encoder = try SnapshotEncoder(
            Sample.header(), state: Sample.state, options: Self.options(worker)
        ) { target.bytes += $0 }
        var told: [UInt64] = []
        encoder.onFrame = { told.append($0) }
        for pair in pairs { try Sample.append(pair, to: encoder) }
        let footer = try encoder.finish()

        #expect(target.bytes == (try Sample.snapshot(pairs, frameBytes: 4096)))
        #expect(footer.frames > 20)
        #expect(told.count == Int(footer.frames))
        #expect(told.last == footer.rawBytes)
        // Four frames, and what is under way of the one that was just given back.
        #expect(worker.most <= 5)
    }

    @Test("what fails on the other thread fails the snapshot, and nothing follows it")
    func failure() throws {
        let worker = CountingWorker()
        defer { worker.stop() }
        let calls = Mutex(0)
        let encoder = try SnapshotEncoder(
            Sample.header(), state: Sample.state, options: Self.options(worker)
        ) { _ throws(SnapshotError) in
            let call = calls.withLock {
                $0 += 1
                return $0
            }
            // The header, then a frame's header and its bytes.
            if call == 5 { throw SnapshotError(.diskFull, "It is full.") }
        }
        do throws(SnapshotError) {
            for pair in Sample.pairs(3000) { try Sample.append(pair, to: encoder) }
            _ = try encoder.finish()
            Issue.record("a snapshot on a full disk was finished")
        } catch {
            #expect(error.code == .diskFull)
        }
        encoder.abandon()
        #expect(calls.withLock { $0 } == 5)
    }

    @Test("an abandoned file is gone, whatever was under way")
    func abandoned() throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = POSIXFileSystem()
        let worker = CountingWorker()
        defer { worker.stop() }
        for count in [0, 1, 50, 3000] {
            let writer = try SnapshotFileWriter(
                disk, path: directory.path + "/r.snapshot", Sample.header(), state: Sample.state,
                options: Self.options(worker))
            for pair in Sample.pairs(count) { try Sample.append(pair, to: writer.encoder) }
            writer.abandon()
            #expect(try disk.list(directory.path).isEmpty)
        }
    }
}
