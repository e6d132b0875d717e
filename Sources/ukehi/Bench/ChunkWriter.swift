// A file written by a thread of its own, so that a client's lane never waits for it.
//
//   lanes -- chunks of whole lines --> queue (bounded) --> thread --> write(2)
//
// A lane whose chunk does not fit waits: a log with holes would be worse than a slower load.

import Glibc
import UkehiBase

/// Why a file of the benchmark could not be used.
struct BenchFileError: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }

    /// With the system's reason for the last failed call.
    static func last(_ effect: String) -> BenchFileError {
        BenchFileError("\(effect): \(String(cString: strerror(errno)))")
    }
}

/// Appends chunks to a file from any thread, in the order they were handed over.
final class ChunkWriter: @unchecked Sendable {
    // Safety: everything below `mutex` is read and written under it only.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>
    private var queue: [Bytes] = []
    private var queuedBytes = 0
    private var isClosing = false
    private var isDone = false
    private var failure: BenchFileError?

    private let path: String
    private let descriptor: Int32
    private static let maxQueuedBytes = 64 << 20

    /// Creates `path` or empties it, and starts the thread.
    init(path: String) throws(BenchFileError) {
        self.path = path
        descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw .last("nothing was started: cannot write to \(path)") }
        mutex = .allocate(capacity: 1)
        changed = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
        BenchThread.start { self.run() }
    }

    deinit {
        close(descriptor)
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    /// Hands over whole lines; waits only while the file is 64 MiB behind.
    func append(_ chunk: Bytes) {
        guard !chunk.isEmpty else { return }
        pthread_mutex_lock(mutex)
        while queuedBytes > ChunkWriter.maxQueuedBytes && failure == nil {
            pthread_cond_wait(changed, mutex)
        }
        if failure == nil {
            queue.append(chunk)
            queuedBytes += chunk.count
            pthread_cond_broadcast(changed)
        }
        pthread_mutex_unlock(mutex)
    }

    /// Returns when everything handed over is in the file.
    func finish() throws(BenchFileError) {
        pthread_mutex_lock(mutex)
        isClosing = true
        pthread_cond_broadcast(changed)
        while !isDone { pthread_cond_wait(changed, mutex) }
        let failure = failure
        pthread_mutex_unlock(mutex)
        if let failure { throw failure }
    }

    private func run() {
        var taken: [Bytes] = []
        while true {
            pthread_mutex_lock(mutex)
            while queue.isEmpty && !isClosing { pthread_cond_wait(changed, mutex) }
            swap(&taken, &queue)
            queuedBytes = 0
            if taken.isEmpty {
                isDone = true
                pthread_cond_broadcast(changed)
                pthread_mutex_unlock(mutex)
                return
            }
            pthread_cond_broadcast(changed)
            pthread_mutex_unlock(mutex)
            for chunk in taken {
                if let error = write(chunk) {
                    pthread_mutex_lock(mutex)
                    failure = failure ?? error
                    pthread_mutex_unlock(mutex)
                    break
                }
            }
            taken.removeAll(keepingCapacity: true)
        }
    }

    private func write(_ chunk: Bytes) -> BenchFileError? {
        chunk.withUnsafeBytes { bytes -> BenchFileError? in
            var done = 0
            while done < bytes.count, let base = bytes.baseAddress {
                let written = Glibc.write(descriptor, base + done, bytes.count - done)
                if written < 0 {
                    if errno == EINTR { continue }
                    return .last("lines are missing in \(path)")
                }
                done += written
            }
            return nil
        }
    }
}

/// Threads of the benchmark's own.
enum BenchThread {
    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// Runs `body` on a new detached thread.
    static func start(_ body: @escaping @Sendable () -> Void) {
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(Body(body)).toOpaque()
        let code = pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run() }
                return nil
            }, argument)
        invariant(code == 0, "no thread could be started: error \(code)")
        pthread_detach(thread)
    }
}
