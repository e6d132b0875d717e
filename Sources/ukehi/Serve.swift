// `ukehi serve`: one node until it is told to stop.

import ArgumentParser
import Logging
import Ukehi

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run one node.",
        discussion: """
            Alone, with everything in ./data:
              ukehi serve

            As one of three, from a file:
              ukehi serve --config node-1.toml

            Every key of the file can be overridden, by UKEHI_RAFT_MAX_LOG_MB=128 or by a flag:
              ukehi serve --config node-1.toml --raft-max-log-mb 128

            Prints `ready` on standard output once it serves, with its address; logs go to standard
            error. Ctrl-C or SIGTERM stops it cleanly. Configuration keys: docs/OPERATING.md.
            """)

    @OptionGroup var settings: ConfigurationFlags

    @Option(help: "trace, debug, info, notice, warning, error or critical.")
    var logLevel: String = "info"

    @Flag(help: "Check the configuration, then exit.") var check = false

    func validate() throws {
        guard Logger.Level(rawValue: logLevel) != nil else {
            throw ValidationError("--log-level \(logLevel) is no level")
        }
    }

    func run() async throws {
        let configuration = try Configuration.load(
            file: settings.config, environment: processEnvironment(), flags: settings.overrides)
        if check {
            printLine("the configuration is in order")
            return
        }
        var logger = Logger(label: "ukehi") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = Logger.Level(rawValue: logLevel) ?? .info
        try await Node.serve(
            configuration: configuration, logger: logger,
            onReady: { node in
                printLine("ready \(node.address) \(configuration.cluster.nodeID)")
                flushOutput()
            })
    }
}
