defmodule BillTracker.MixProject do
  use Mix.Project

  # The version of the release's folders. What the app itself says is BillTracker.version/0.
  def project do
    [
      app: :bill_tracker,
      version: "1.0.0",
      elixir: "~> 1.14",
      deps: [],
      releases: [bill_tracker: [include_erts: false, steps: [:assemble, &tidy/1]]]
    ]
  end

  def application do
    [mod: {BillTracker.Application, []}, extra_applications: [:crypto]]
  end

  # The same source makes the same bytes, and nothing secret: no cookie (there is no
  # distribution), no Windows scripts, no files that hold the time of the build.
  defp tidy(release) do
    times = for name <- ~w(start start_clean bill_tracker), end_ <- ~w(script rel), do: "#{name}.#{end_}"

    for file <- times ++ ~w(elixir.bat iex.bat env.bat iex), do: File.rm(Path.join(release.version_path, file))
    File.rm(Path.join(release.path, "bin/bill_tracker.bat"))
    File.rm(Path.join(release.path, "releases/COOKIE"))
    release
  end
end
