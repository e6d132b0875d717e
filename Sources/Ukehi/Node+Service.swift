// A node among the services of a process, and as a process of its own.

public import Logging
public import ServiceLifecycle
internal import UkehiNode
internal import UkehiPOSIX
internal import UnixSignals

extension Node: Service {
    /// Serves until the service group shuts down, then stops cleanly.
    ///
    /// - Throws: ``NodeError`` when the node failed meanwhile, so that the group ends too.
    public func run() async throws {
        let failures = failures.stream()
        let failure = await withTaskGroup(of: NodeError?.self) { group in
            group.addTask {
                // Cancellation, too, ends the service.
                try? await gracefulShutdown()
                return nil
            }
            group.addTask {
                for await failure in failures { return failure }
                return nil
            }
            let first = await group.next() ?? nil
            group.cancelAll()
            return first
        }
        await stop()
        if let failure { throw failure }
    }

    /// Runs a node as a process of its own: until SIGINT or SIGTERM, or until it fails. Raises the process's
    /// limit of open files as far as it may.
    ///
    /// - Parameter onReady: Called once the node serves.
    /// - Throws: ``ConfigurationError``, or ``NodeError`` with the exit code that stands for it.
    public static func serve(
        configuration: Configuration, logger: Logger,
        stateMachine: StateMachineFactory? = nil,
        onReady: @escaping @Sendable (Node) -> Void = { _ in }
    ) async throws {
        OpenFileLimit.raise()
        let node = try await start(
            configuration: configuration, logger: logger, stateMachine: stateMachine,
            // Told by `run()`, which ends the group.
            onFailure: { _ in })
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [.init(service: node)], gracefulShutdownSignals: [.sigterm, .sigint],
                logger: logger))
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            tasks.addTask {
                // A node that failed or was stopped first is told by the group.
                guard (try? await node.ready()) != nil else { return }
                onReady(node)
            }
            try await tasks.waitForAll()
        }
    }
}
