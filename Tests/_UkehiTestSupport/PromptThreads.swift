// Threads for the tests that wait for nodes, connections and processes.
//
// Every test of a run is begun at once, on as many threads as there are processors. Those that
// only compute hold one until they end; what is awaited goes on once all of them have had their
// turn, minutes later at the beginning of a run. A request with a deadline of seconds, which is
// sent after something else was awaited, is then late before it was sent.

import Foundation
package import Testing

/// Jobs in the order given, on threads of their own.
package final class PromptThreads: TaskExecutor, @unchecked Sendable {
    // Safety: `jobs` is touched only under `condition`.
    private let condition = NSCondition()
    private var jobs: [UnownedJob] = []

    /// Lives as long as the process.
    static let shared = PromptThreads(count: 8)

    private init(count: Int) {
        for _ in 0..<count { Thread.detachNewThread { [self] in loop() } }
    }

    /// Whether the task that asks runs on them.
    package static var isCurrent: Bool {
        withUnsafeCurrentTask { task in
            task?.unownedTaskExecutor == PromptThreads.shared.asUnownedTaskExecutor()
        }
    }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        condition.withLock {
            jobs.append(job)
            condition.signal()
        }
    }

    private func loop() -> Never {
        while true {
            let job = condition.withLock {
                while jobs.isEmpty { condition.wait() }
                return jobs.removeFirst()
            }
            job.runSynchronously(on: asUnownedTaskExecutor())
        }
    }
}

/// The test and its child tasks run on threads that no computing test holds.
package struct PromptTrait: TestTrait, SuiteTrait, TestScoping {
    package var isRecursive: Bool { true }

    package func provideScope(
        for test: Test, testCase: Test.Case?,
        performing body: @concurrent @Sendable () async throws -> Void
    ) async throws {
        // Of a suite with this trait, this is called for the suite and again for each of its tests.
        try await withTaskExecutorPreference(PromptThreads.shared) { try await body() }
    }
}

extension Trait where Self == PromptTrait {
    /// For tests that talk to nodes: what they await goes on when it is there, however many tests compute.
    package static var prompt: Self { PromptTrait() }
}
